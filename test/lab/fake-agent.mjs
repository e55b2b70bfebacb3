// Stands for the agent where the lab itself is tested: plays its roles by their words, without a tunnel.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const args = process.argv.slice(2);
const option = (name) => args[args.indexOf(name) + 1] ?? "";
const say = (line) => process.stdout.write(`${line}\n`);
const forever = () => setInterval(() => {}, 1 << 30);
/** "none", or the role that fails at once. */
const failing = readFileSync(new URL("failing", import.meta.url), "utf8");

if (args[0] === failing) {
  say(`the ${failing} fails, as it should in this test`);
  process.exit(1);
}
play(args[0]);

function play(role) {
  switch (role) {
    case "relay":
      writeFileSync(join(option("--state-dir"), "derp-map.json"), "{}");
      return forever();
    case "control":
      writeFileSync(join(option("--state-dir"), "cert-pin"), `sha256-raw:${"ab".repeat(32)}`);
      writeFileSync(option("--auth-key-file"), "key");
      return forever();
    case "daemon":
      mkdirSync(option("--state-dir"), { recursive: true });
      writeFileSync(option("--socket"), "");
      return forever();
    case "ping":
      say("pong from exit-node (127.0.0.1) via DERP(nyc) in 41ms");
      return failing === "never" ? forever() : undefined;
    case "status":
      return say(args.includes("--json") ? statusJson() : "100.64.0.1  exit-node");
  }
}

/** The tunnel address is the client's own, where nobody serves HTTP: the story must notice. */
function statusJson() {
  const peer = {
    HostName: "exit-node",
    TailscaleIPs: ["127.0.0.1"],
    CurAddr: "198.18.10.10:41641",
    Relay: "nyc",
  };
  return JSON.stringify({ BackendState: "Running", Self: {}, Peer: { "nodekey:1": peer } });
}
