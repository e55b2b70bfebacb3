import { parseWireGuardFile } from "../../../agent/src/io/wireguard-file.ts";

const KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const INTERFACE = `[Interface]\nPrivateKey = ${KEY}\nAddress = 10.0.0.1/24\n`;

function parse(text: string) {
  return parseWireGuardFile(text, "wg.conf");
}

test("every line of a whole file is understood", () => {
  const file = parse(`
    # a tunnel
    [Interface]
    PrivateKey = ${KEY}
    Address = 10.0.0.1/24, fd00::1/64
    ListenPort = 51820
    MTU = 9000
    [peer]
    PublicKey=${OTHER}
    PresharedKey = ${KEY}
    AllowedIPs = 10.0.0.7/24
    AllowedIPs = ::/0, fd00::2
    Endpoint = [2001:db8::1]:51820   # over there
    PersistentKeepalive = 25
    [Peer]
    PublicKey = ${KEY}
    Endpoint = vpn.example.com:1`);
  expect(file.addresses.map(({ text }) => text)).toEqual(["10.0.0.1", "fd00::1"]);
  expect([file.listenPort, file.mtu]).toEqual([51_820, 9000]);
  const [one, two] = file.peers;
  expect(Buffer.from(one?.publicKey.bytes ?? []).toString("base64")).toBe(OTHER);
  expect(Buffer.from(one?.presharedKey ?? []).toString("base64")).toBe(KEY);
  expect(one?.allowedIps.map(({ text }) => text)).toEqual(["10.0.0.0/24", "::/0", "fd00::2/128"]);
  expect(one?.endpoint).toEqual({ host: "[2001:db8::1]", port: 51_820 });
  expect([one?.persistentKeepalive, two?.persistentKeepalive]).toEqual([25_000, undefined]);
  expect(two?.endpoint).toEqual({ host: "vpn.example.com", port: 1 });
});

test("what is not said has wg-quick's defaults", () => {
  const file = parse(INTERFACE);
  expect([file.listenPort, file.mtu, file.peers]).toEqual([0, 1420, []]);
});

test("all mistakes are named together, each by its line, and no key is repeated", () => {
  const text = `Address = 10.0.0.1\n${INTERFACE}MTU = 100\nPostUp = rm\n[Peer]\nPublicKey = ${KEY.slice(1)}\nEndpoint = x\nnonsense`;
  const problems = [
    "wg.conf, line 1, stands before [Interface]",
    "wg.conf, line 10, is no [Interface], [Peer] or NAME = VALUE",
    'wg.conf, line 5, mtu: "100" is no number from 1280 to 65475',
    "wg.conf, line 8, publickey: a key is 44 characters of base64: make one with wg genkey or wg genpsk",
    "wg.conf, line 9, endpoint: an endpoint is HOST:PORT or [IPV6]:PORT",
  ];
  expect(() => parse(text)).toThrow(/postup in \[interface\] is nothing that this tunnel does: remove it/);
  for (const problem of problems) expect(() => parse(text)).toThrow(problem);
  expect(() => parse(text)).not.toThrow(KEY.slice(1));
});

test("a file without keys says which are missing", () => {
  expect(() => parse("[Interface]\n[Peer]")).toThrow(/has no privatekey: add it\n.*has no publickey: add it/);
  expect(() => parse("")).toThrow("has 0 [Interface] sections: write one");
});
