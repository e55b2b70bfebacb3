/** The lines of the user data that bring nftables onto an exit node: Amazon Linux comes without it. */

/** Installing a package takes more than the smallest instances have: the kernel kills dnf (amazonlinux/amazon-linux-2023#404). */
const ENOUGH_MEMORY_KB = 1_048_576;
const SWAP_MIB = 512;
/** A mirror may be out of reach for a moment. */
const TRIES = 5;

/**
 * Where memory is short there is a swap file while it installs. It never fails the boot: without nftables the agent says so in
 * its health, and carries nothing. It is a subshell, so that its trap leaves that of the script alone.
 */
export const FORWARDING_TOOLS: readonly string[] = [
  "install_nftables() {",
  "  if command -v dnf > /dev/null; then dnf -q -y install nftables",
  "  else apt-get -q update && apt-get -q -y install nftables; fi",
  "}",
  "command -v nft > /dev/null || (",
  "  swap=/var/tmp/sallyport-swap",
  "  memory=$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo)",
  // Written, not allocated: swap must have no holes.
  `  if [ "$memory" -lt ${ENOUGH_MEMORY_KB} ]; then`,
  '    trap \'swapoff "$swap" 2> /dev/null || true; rm -f "$swap"\' EXIT',
  `    (umask 077 && dd if=/dev/zero of="$swap" bs=1M count=${SWAP_MIB} status=none) && mkswap -q "$swap" && swapon "$swap"`,
  "  fi",
  `  for try in $(seq ${TRIES}); do`,
  "    if install_nftables; then exit 0; fi",
  '    echo "sallyport: nftables is not installed (try $try)" >&2',
  "    sleep 10",
  "  done",
  '  echo "sallyport: the node carries nothing until nftables is installed" >&2',
  ") || true",
];
