/**
 * An instance's own files: a mount namespace in which /etc, /opt, /usr/local, /var and /dev are the host's with a layer of the
 * instance's own over them, so that user data writes where it says and nothing of it reaches the host. All of it is gone with
 * the last process in it.
 */
import { RESOLVER_IP } from "../services/services.ts";
import { SYSTEMCTL } from "./systemd.ts";

export interface DiskOptions {
  /** What the layers lie in; on a disk, since the agent is unpacked into it. */
  readonly folder: string;
  readonly hostname: string;
  /** A PEM file to trust beside the host's authorities. */
  readonly caFile: string | undefined;
}

/** Folders that the instance sees as they are, until it writes. */
const LAYERED = ["etc", "opt", "usr/local", "dev"];
/** Folders that are empty on a new instance. */
const EMPTY = ["var/tmp", "var/lib", "run"];
/** What curl and OpenSSL trust on Debian. */
const CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt";
/** The lab's own authority, for programs with a list of their own. */
export const CA_FILE = "/etc/ssl/certs/sallyport-lab.pem";

/** For `sh`, in a mount and UTS namespace of its own; it goes on to wait for ever. */
export function diskScript({ folder, hostname, caFile }: DiskOptions): string {
  return [
    "set -e",
    ...LAYERED.flatMap((name) => {
      const [upper, work] = [`${folder}/${name}`, `${folder}/work/${name}`];
      return [
        `mkdir -p ${upper} ${work}`,
        `mount -t overlay overlay -o lowerdir=/${name},upperdir=${upper},workdir=${work} /${name}`,
      ];
    }),
    ...EMPTY.flatMap((name) => [
      `mkdir -p ${folder}/${name}`,
      `chmod 0755 ${folder}/${name}`,
      `mount --bind ${folder}/${name} /${name}`,
    ]),
    "chmod 1777 /var/tmp",
    "mkdir -p /dev/disk/by-id /dev/net",
    // As udev leaves it: for everybody who has the capability.
    "rm -f /dev/net/tun; mknod -m 0666 /dev/net/tun c 10 200",
    // Where there is one it may be a link into /run.
    `rm -f /etc/resolv.conf; echo 'nameserver ${RESOLVER_IP}' > /etc/resolv.conf`,
    `echo ${hostname} > /etc/hostname; hostname ${hostname}`,
    // The host's own agent is none of the instance's business.
    "rm -rf /etc/sallyport /opt/sallyport",
    ...(caFile === undefined ? [] : [`install -m 0644 ${caFile} ${CA_FILE}; cat ${caFile} >> ${CA_BUNDLE}`]),
    `cat > /usr/local/sbin/systemctl <<'END'\n${SYSTEMCTL}END`,
    "chmod 0755 /usr/local/sbin/systemctl",
    "echo ready",
    "exec sleep infinity",
  ].join("\n");
}

/** Where the name of a volume leads to on an instance, as on Nitro. */
export function volumeLink(volumeId: string): string {
  return `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volumeId.replaceAll("-", "")}`;
}
