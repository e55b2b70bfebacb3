/** Unmodified wireguard-go at the other end of our data plane: every byte, length and mark arrives as it was sent. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { buildPeers, PEERS_TIMEOUT_MS, testWithPeers } from "./peers.ts";
import { type Family, type PlainHost, type PlainPair, PlainWorld } from "./plain-world.ts";
import { requires } from "../skip.ts";

const hasPython = spawnSync("python3", ["-V"]).status === 0;
const testHere =
  testWithPeers === test
    ? requires("python3", hasPython, "python3 sends the packets: install it")
    : testWithPeers;
const TEST_LIMIT_MS = 90_000;
const START_LIMIT_MS = 20_000;
const BULK = 4 * 1024 * 1024;
const BULK_PORT = 8081;
const ECHO_PORT = 8082;
/** AF41 with "ECN capable", and "congestion experienced" alone. */
const [CLASS_AND_ECN, CONGESTION] = [0x88 | 2, 3];
const HEADERS: Readonly<Record<Family, number>> = { 4: 28, 6: 48 };

let world: PlainWorld;

beforeAll(async () => {
  if (testHere === test) world = await PlainWorld.open((await buildPeers()).wireguard);
}, PEERS_TIMEOUT_MS);

afterEach(() => world?.disconnect());
afterAll(() => world?.close(), START_LIMIT_MS);

const PAIRS: readonly PlainPair[] = ([4, 6] as const).flatMap((outer) =>
  [1280, 1420, 9000].map((mtu) => ({ outer, mtu, presharedKey: true })),
);

for (const pair of PAIRS) {
  testHere(
    `over IPv${pair.outer}, MTU ${pair.mtu}, with a preshared key: files, marks and packets of every length`,
    async () => {
      await world.connect(pair);
      const echoes = [await startEcho("theirs"), await startEcho("ours")];
      for (const family of [4, 6] as const) {
        await expectFile("ours", "theirs", family);
        await expectFile("theirs", "ours", family);
        for (const [from, to] of [
          ["ours", "theirs"],
          ["theirs", "ours"],
        ] as const)
          await expectDatagrams(from, world.inner(to, family), family, pair.mtu);
      }
      await Promise.all(echoes.map((echo) => echo.stop()));
    },
    TEST_LIMIT_MS,
  );
}

testHere(
  "what does not fit and may not be cut is answered with the size that does, for who is behind us; the rest is cut",
  async () => {
    await world.connect({ mtu: 1280, outer: 4, presharedKey: false });
    const echo = await startEcho("theirs");
    for (const family of [4, 6] as const) {
      const to = world.inner("theirs", family);
      const answers = await ask(
        "behind",
        to,
        { length: 1280 - HEADERS[family], whole: true },
        { length: 1300, whole: true },
        { length: 4000, whole: false },
      );
      const fits = `length ${1280 - HEADERS[family]} mark 0 right`;
      expect(answers).toEqual([fits, "too big, the path carries 1280", "length 4000 mark 0 right"]);
    }
    await echo.stop();
  },
  TEST_LIMIT_MS,
);

testHere(
  "who sends from another port in the midst of a session is answered there, without a new handshake",
  async () => {
    for (const env of [{}, { SALLYPORT_DATAPLANE: "off" }]) {
      await world.connect({ mtu: 1420, outer: 6, presharedKey: false, env });
      const echo = await startEcho("ours");
      for (const length of [100, 101]) {
        const answers = await ask("theirs", world.inner("ours", 4), { length, whole: true });
        expect(answers).toEqual([`length ${length} mark 0 right`]);
        await world.moveTheirs();
      }
      await echo.stop();
      await world.disconnect();
    }
  },
  TEST_LIMIT_MS,
);

testHere(
  "without the data plane's thread all of it holds as well",
  async () => {
    await world.connect({ mtu: 1420, outer: 4, presharedKey: true, env: { SALLYPORT_DATAPLANE: "off" } });
    const echo = await startEcho("theirs");
    await expectFile("ours", "theirs", 6);
    await expectFile("theirs", "ours", 4);
    await expectDatagrams("ours", world.inner("theirs", 4), 4, 1420);
    await echo.stop();
  },
  TEST_LIMIT_MS,
);

const traffic = (...args: readonly string[]): readonly string[] => [
  process.execPath,
  join(__dirname, "traffic.mjs"),
  ...args,
];
const datagrams = (...args: readonly string[]): readonly string[] => [
  "python3",
  join(__dirname, "datagrams.py"),
  ...args,
];

async function expectFile(from: "ours" | "theirs", to: "ours" | "theirs", family: Family): Promise<void> {
  const giver = world.start(from, "give", traffic("give", String(BULK_PORT), String(BULK)));
  const hash = (await giver.readyLine(/^listening /, START_LIMIT_MS)).split(" ")[1];
  const lines = await world.lines(to, "take", traffic("take", world.inner(from, family), String(BULK_PORT)));
  expect(lines).toEqual([`took ${hash}`]);
  await giver.stop();
}

async function startEcho(host: "ours" | "theirs") {
  const echo = world.start(host, `echo-${host}`, datagrams("echo", String(ECHO_PORT)));
  await echo.readyLine(/^listening/, START_LIMIT_MS);
  return echo;
}

/** None, one byte, as much as fits, and several fragments of it; each with the marks of congestion and class. */
async function expectDatagrams(from: PlainHost, to: string, family: Family, mtu: number): Promise<void> {
  const most = mtu - HEADERS[family];
  const questions: readonly Question[] = [
    { length: 0, mark: CLASS_AND_ECN, whole: true },
    { length: 1, mark: CONGESTION, whole: true },
    { length: most, mark: CLASS_AND_ECN, whole: true },
    { length: 3 * mtu, whole: false },
  ];
  const expected = questions.map(({ length, mark = 0 }) => `length ${length} mark ${mark} right`);
  expect(await ask(from, to, ...questions)).toEqual(expected);
}

interface Question {
  readonly length: number;
  readonly mark?: number;
  readonly whole: boolean;
}

async function ask(
  from: PlainHost,
  to: string,
  ...questions: readonly Question[]
): Promise<readonly string[]> {
  const texts = questions.map(
    ({ length, mark = 0, whole }) => `${length}:${mark}:${whole ? "whole" : "cut"}`,
  );
  return await world.lines(from, "ask", datagrams("ask", to, String(ECHO_PORT), ...texts));
}
