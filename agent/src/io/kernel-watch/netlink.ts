/**
 * Hears of changes by the kernel's own sockets (netlink(7), rtnetlink(7)). A datagram holds messages one behind the other, each
 * filled up to four bytes; numbers are in the machine's order, which is little-endian wherever this runs.
 *
 *     0        4      6       8      12     16           16 + header
 *     | length | type | flags | sequence | port | header | attributes: length u16, type u16, value
 */
import { constants } from "node:os";
import { Ip } from "../../base/address.ts";
import { fromUtf8, viewOf } from "../../base/bytes.ts";
import { isAbsent } from "../ffi/koffi.ts";
import { AF_NETLINK, type Libc, loadLibc, SOCK_RAW } from "../ffi/libc.ts";
import type { KernelChange } from "./change.ts";

/** From linux/netlink.h. */
export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
/** Groups of linux/rtnetlink.h, as bits: link, addresses, routes and rules of both families, and their settings (netconf). */
const ROUTE_GROUPS = [1, 5, 7, 8, 9, 11, 19, 24, 25].reduce((bits, group) => bits | (1 << (group - 1)), 0);
/** NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h. */
const NFTABLES_GROUPS = 1 << (7 - 1);
/** The kernel sends at most 32 KiB at once. */
const BUFFER_LENGTH = 64 * 1024;

const NOTHING_TO_READ = -constants.errno.EAGAIN;

const MESSAGE_HEADER = 16;
const ATTRIBUTE_HEADER = 4;
/** Bits of an attribute's type that are none of its number. */
const TYPE_MASK = 0x3fff;
const align = (length: number): number => (length + 3) & ~3;

/** linux/rtnetlink.h, linux/fib_rules.h, linux/if_addr.h, linux/if_link.h, linux/if.h. */
const [RTM_NEWLINK, RTM_DELADDR, RTM_DELROUTE, RTM_DELRULE] = [16, 21, 25, 33];
const [FRA_PRIORITY, RTA_TABLE, IFA_ADDRESS, IFA_LOCAL, IFLA_IFNAME] = [6, 15, 1, 2, 3];
const IFF_UP = 1;
/** linux/netfilter/nf_tables.h: NFNL_SUBSYS_NFTABLES and NFT_MSG_DELTABLE; NFPROTO_INET. */
const [NFT_DELTABLE, NFTA_TABLE_NAME, INET] = [(10 << 8) | 2, 1, 1];
/** struct ifinfomsg, ifaddrmsg, rtmsg, fib_rule_hdr, nfgenmsg. */
const [LINK_HEADER, ADDRESS_HEADER, ROUTE_HEADER, RULE_HEADER, NFT_HEADER] = [16, 8, 12, 12, 4];

/** Undefined where such sockets can not be had. It does not keep the process alive by itself. */
export function watchByNetlink(onChange: (change: KernelChange) => void): { close(): void } | undefined {
  const libc = loadLibc();
  if (isAbsent(libc)) return undefined;
  const route = openNetlink(libc, NETLINK_ROUTE, ROUTE_GROUPS, onChange);
  const filter = openNetlink(libc, NETLINK_NETFILTER, NFTABLES_GROUPS, onChange);
  const close = (): void => {
    route?.close();
    filter?.close();
  };
  if (route !== undefined && filter !== undefined) return { close };
  close();
  return undefined;
}

interface Netlink {
  close(): void;
}

function openNetlink(
  libc: Libc,
  protocol: number,
  groups: number,
  onChange: (change: KernelChange) => void,
): Netlink | undefined {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW, protocol);
  if (fd < 0) return undefined;
  if (libc.bindNetlink(fd, groups) < 0) {
    libc.close(fd);
    return undefined;
  }
  const buffer = new Uint8Array(BUFFER_LENGTH);
  let next: Netlink | undefined;
  let isOpen = true;
  const watch = libc.watchReadable(fd, () => {
    let length = libc.read(fd, buffer);
    for (; length > 0; length = isOpen ? libc.read(fd, buffer) : NOTHING_TO_READ) {
      for (const change of decodeChanges(protocol, buffer.subarray(0, length))) onChange(change);
    }
    if (length === NOTHING_TO_READ) return;
    // ENOBUFS: there was more than the socket holds. The error has ended the watch.
    close();
    next = openNetlink(libc, protocol, groups, onChange);
    onChange({ kind: "lost" });
  });
  const close = (): void => {
    if (!isOpen) return;
    isOpen = false;
    watch.close();
    libc.close(fd);
  };
  return { close: () => (next === undefined ? close() : next.close()) };
}

/** One change for each message; what is malformed is "other". */
export function decodeChanges(protocol: number, datagram: Uint8Array): readonly KernelChange[] {
  const view = viewOf(datagram);
  const changes: KernelChange[] = [];
  for (let at = 0; at + MESSAGE_HEADER <= datagram.length;) {
    const length = view.getUint32(at, true);
    if (length < MESSAGE_HEADER || at + length > datagram.length) break;
    const body = datagram.subarray(at + MESSAGE_HEADER, at + length);
    const decode = protocol === NETLINK_ROUTE ? decodeRoute : decodeFilter;
    changes.push(decode(view.getUint16(at + 4, true), body) ?? { kind: "other" });
    at += align(length);
  }
  return changes;
}

function decodeRoute(type: number, body: Uint8Array): KernelChange | undefined {
  switch (type) {
    case RTM_DELRULE: {
      const priority = numberOf(attributeOf(body, RULE_HEADER, FRA_PRIORITY));
      return priority === undefined ? undefined : { kind: "rule-gone", priority };
    }
    case RTM_DELROUTE: {
      const table = numberOf(attributeOf(body, ROUTE_HEADER, RTA_TABLE));
      return table === undefined ? undefined : { kind: "route-gone", table };
    }
    case RTM_DELADDR: {
      const bytes =
        attributeOf(body, ADDRESS_HEADER, IFA_LOCAL) ?? attributeOf(body, ADDRESS_HEADER, IFA_ADDRESS);
      const isAddress = bytes?.length === 4 || bytes?.length === 16;
      return isAddress ? { kind: "address-gone", ip: Ip.fromBytes(bytes.slice()) } : undefined;
    }
    case RTM_NEWLINK: {
      const device = textOf(attributeOf(body, LINK_HEADER, IFLA_IFNAME));
      if (device === undefined || (viewOf(body).getUint32(8, true) & IFF_UP) !== 0) return undefined;
      return { kind: "device-down", device };
    }
    default:
      return undefined;
  }
}

function decodeFilter(type: number, body: Uint8Array): KernelChange | undefined {
  if (type !== NFT_DELTABLE || body[0] !== INET) return undefined;
  const name = textOf(attributeOf(body, NFT_HEADER, NFTA_TABLE_NAME));
  return name === undefined ? undefined : { kind: "table-gone", name };
}

function attributeOf(body: Uint8Array, header: number, wanted: number): Uint8Array | undefined {
  const view = viewOf(body);
  for (let at = header; at + ATTRIBUTE_HEADER <= body.length;) {
    const length = view.getUint16(at, true);
    if (length < ATTRIBUTE_HEADER || at + length > body.length) return undefined;
    if ((view.getUint16(at + 2, true) & TYPE_MASK) === wanted)
      return body.subarray(at + ATTRIBUTE_HEADER, at + length);
    at += align(length);
  }
  return undefined;
}

function numberOf(value: Uint8Array | undefined): number | undefined {
  return value?.length === 4 ? viewOf(value).getUint32(0, true) : undefined;
}

/** Without the zero at its end. */
function textOf(value: Uint8Array | undefined): string | undefined {
  return value === undefined ? undefined : fromUtf8(value).replace(/\0.*$/s, "");
}
