import { after, type Instant, instant, millis } from "../../../../agent/src/base/time.ts";
import { Takeover, type TakeoverAction, type Whereabouts } from "../../../../agent/src/core/cell/takeover.ts";

/** A cloud that answers as it is told, and a clock that jumps to the next deadline. */
class Play {
  now: Instant = instant(0);
  readonly asked: string[] = [];
  readonly takeover: Takeover;

  constructor(...parts: ConstructorParameters<typeof Takeover>[0]) {
    this.takeover = new Takeover(parts, this.now);
  }

  run(
    answer: (action: Exclude<TakeoverAction, { kind: "heartbeat" }>, play: Play) => void,
    limit = 1_000,
  ): string | undefined {
    for (let i = 0; i < limit; i++) {
      const { outcome } = this.takeover;
      if (outcome !== undefined) return outcome.kind === "taken" ? "taken" : outcome.why;
      const action = this.takeover.pollAction(this.now);
      if (action === undefined) this.now = after(this.takeover.pollTimeout() ?? this.now, millis(1));
      else if (action.kind === "heartbeat") this.asked.push("heartbeat");
      else {
        this.asked.push(
          `${action.kind} ${action.part}${action.kind === "detach" && action.force ? " by force" : ""}`,
        );
        answer(action, this);
      }
    }
    throw new Error(`no end: ${this.asked.slice(-5).join(", ")}`);
  }
}

/** EC2 with a node before us that lets go of either after some seconds, or never. */
function cloud(start: { interface: Whereabouts; volume: "free" | "elsewhere" }, letsGoAfter: number) {
  const state = { ...start, asked: { interface: Infinity, volume: Infinity } };
  return (action: Exclude<TakeoverAction, { kind: "heartbeat" }>, { takeover, now }: Play): void => {
    const { part } = action;
    const gone = now - state.asked[part] >= letsGoAfter * 1000;
    if (gone && state[part] !== "here") state[part] = "free";
    if (action.kind === "find") return takeover.handleFound(state.interface, now);
    if (action.kind === "detach") {
      if (state.asked[part] === Infinity) state.asked[part] = now;
      if (action.force) state[part] = "free";
      else if (part === "interface" && !gone) state.interface = "leaving";
      return takeover.handleDone(action, now);
    }
    if (state[part] !== "free") return takeover.handleRefused(action, "in-use", "VolumeInUse", now);
    if (part === "interface") state.interface = "here";
    takeover.handleDone(action, now);
  };
}

test("what is free is taken: the interface, then the volume", () => {
  const play = new Play("interface", "volume");
  expect(play.run(cloud({ interface: "free", volume: "free" }, 0))).toBe("taken");
  expect(play.asked.filter((one) => one !== "heartbeat")).toEqual([
    ...["find interface", "attach interface", "find interface", "attach volume"],
  ]);
});

test("a node that lives lets go of each before it is taken here", () => {
  const play = new Play("interface", "volume");
  expect(play.run(cloud({ interface: "elsewhere", volume: "elsewhere" }, 5))).toBe("taken");
  const { asked } = play;
  expect(asked.indexOf("detach interface")).toBeLessThan(asked.indexOf("attach interface"));
  expect(asked.indexOf("attach interface")).toBeLessThan(asked.indexOf("attach volume"));
  expect(asked.lastIndexOf("detach volume")).toBeLessThan(asked.lastIndexOf("attach volume"));
  expect(asked.some((one) => one.includes("force"))).toBe(false);
  expect(play.now).toBeLessThan(30_000);
});

test("from a dead node it is taken by force, not before it had its time", () => {
  const play = new Play("interface", "volume");
  let first: number | undefined;
  const dead = cloud({ interface: "elsewhere", volume: "elsewhere" }, Infinity);
  const outcome = play.run((action, at) => {
    if (action.kind === "detach" && action.force) first ??= at.now;
    dead(action, at);
  });
  expect(outcome).toBe("taken");
  expect(first).toBeGreaterThanOrEqual(45_000);
  expect(play.asked).toEqual(expect.arrayContaining(["detach interface by force", "detach volume by force"]));
});

test("the launch hook hears of it every minute, and it ends before the hook does", () => {
  const play = new Play("interface");
  const outcome = play.run((action, { takeover, now }) => {
    if (action.kind === "find") takeover.handleFound("leaving", now);
    else takeover.handleDone(action, now);
  });
  expect(outcome).toMatch(/^it did not come within 420 s/);
  expect(play.asked.filter((one) => one === "heartbeat")).toHaveLength(7);
  expect(play.now).toBeGreaterThanOrEqual(420_000);
  expect(play.now).toBeLessThan(600_000);
});

test("throttling and a slow role are waited for, what is not permitted or does not exist is not", () => {
  const play = new Play("interface");
  let times = 0;
  expect(
    play.run((action, { takeover, now }) => {
      if (times++ < 5) takeover.handleRefused(action, "later", "RequestLimitExceeded", now);
      else takeover.handleFound("here", now);
    }),
  ).toBe("taken");
  for (const refusal of ["denied", "unknown"] as const) {
    const refused = new Play("interface");
    expect(
      refused.run((action, { takeover, now }) => takeover.handleRefused(action, refusal, "no", now)),
    ).toBe("no");
  }
});

test("a second run on the same machine takes nothing from itself", () => {
  const play = new Play("interface", "volume");
  play.takeover.handleVolumeHere(play.now);
  expect(
    play.run(({ kind }, { takeover, now }) => kind === "find" && takeover.handleFound("here", now)),
  ).toBe("taken");
  expect(play.asked).toEqual(["heartbeat", "find interface"]);
});

test("a cell that moves nothing has nothing to take", () => {
  expect(new Play().run(() => {})).toBe("taken");
});
