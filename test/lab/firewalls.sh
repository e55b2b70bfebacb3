#!/bin/sh
# Debian's iptables and firewalld in a folder of their own, for test/lab/forward-accept.test.ts. They are not installed: other
# programs that the tests run would take them for the machine's own packet filter.
set -eu
root=$1
[ ! -e "$root/ready" ] || exit 0
mkdir -p "$root/debs" "$root/bin" "$root/legacy"
cd "$root"
root=$(pwd)
(
  cd debs
  apt-get download iptables libip4tc2 libip6tc2 libxtables12 libnetfilter-conntrack3 libnfnetlink0 \
    firewalld python3-firewall python3-nftables python3-dbus python3-gi python3-cap-ng gir1.2-glib-2.0 \
    libgirepository-1.0-1 libdbus-1-3 libcap-ng0 libapparmor1 dbus-daemon
)
for deb in debs/*.deb; do dpkg -x "$deb" .; done
lib=$(dirname "$(find . -name libxtables.so.12 | head -n 1)")
lib=$root/${lib#./}
wrap() {
  printf '#!/bin/sh\nexport LD_LIBRARY_PATH=%s XTABLES_LIBDIR=%s\nexport PYTHONPATH=%s GI_TYPELIB_PATH=%s\nexec %s "$@"\n' \
    "$lib" "$lib/xtables" "$root/usr/lib/python3/dist-packages" "$lib/girepository-1.0" "$2" > "$1"
  chmod 0755 "$1"
}
wrap bin/iptables "$root/usr/sbin/iptables-nft"
wrap legacy/iptables "$root/usr/sbin/iptables-legacy"
wrap bin/firewall-cmd "/usr/bin/python3 $root/usr/bin/firewall-cmd"
wrap bin/firewalld "/usr/bin/python3 $root/usr/sbin/firewalld --nofork --nopid --default-config $root/usr/lib/firewalld"
wrap bin/dbus-daemon "$root/usr/bin/dbus-daemon"
touch ready
