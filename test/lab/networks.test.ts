/** Scenarios in which the network is what matters: regions far apart, and several hosts behind one address. */
import { testWithLab } from "./bundle.ts";
import { example, ours, play } from "./play.ts";

const testWithBuild = testWithLab();
const LIMIT_MS = 300_000;

testWithBuild(
  "exit nodes in three regions join by a public certificate and are reached directly",
  async () => {
    const { steps, failed, code } = await play(example("multi-region"));
    expect(failed).toEqual([]);
    expect(steps).toEqual(
      ["frankfurt", "virginia", "singapore"].map((place) =>
        expect.stringMatching(`laptop → exit-${place}: direct .* direct 198\\.18\\.\\d+\\.10:41641$`),
      ),
    );
    expect(code).toBe(0);
  },
  LIMIT_MS,
);

testWithBuild(
  "exit nodes behind a load balancer's address, one of them of a group, are direct at it by their ports",
  async () => {
    const { steps, failed, code } = await play(ours("shared-address"));
    expect(failed).toEqual([]);
    const direct = steps.filter((line) => line.includes(": direct"));
    const ways = direct.map((line) => /direct (198\.18\.\S+):(\d+)$/.exec(line)?.slice(1) ?? []);
    expect(new Set(ways.map(([ip]) => ip)).size).toBe(1);
    expect(ways.map(([, port]) => port)).toEqual(["41641", "41642", "41641", "41642"]);
    expect(code).toBe(0);
  },
  LIMIT_MS,
);

testWithBuild(
  "hosts behind one hard NAT, each with a forwarded port of its own, are all direct",
  async () => {
    const { steps, failed, code } = await play(ours("one-address-many-hosts"));
    expect([steps.length, failed, code]).toEqual([2, [], 0]);
  },
  LIMIT_MS,
);
