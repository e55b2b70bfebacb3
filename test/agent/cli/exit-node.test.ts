/** Which exit nodes are listed where the control server says in which cities they are, as Tailscale's does of Mullvad's. */
import type { PeerJson, StatusJson } from "../../../agent/src/health/status-json.ts";
import { vectors } from "../../vectors/load.ts";
import { emptyStatus, run, withDaemon } from "./run.ts";

const { status_json: sample } = vectors<{ readonly status_json: StatusJson }>("cli-samples.json");
const GERMANY = { Country: "Germany", CountryCode: "DE" };

const peers: readonly PeerJson[] = [
  exit("se-got-1", {
    Country: "Sweden",
    CountryCode: "SE",
    City: "Gothenburg",
    CityCode: "GOT",
    Priority: 1,
  }),
  exit("de-fra-1", { ...GERMANY, City: "Frankfurt", CityCode: "FRA", Priority: 10 }),
  exit("de-fra-2", { ...GERMANY, City: "Frankfurt", CityCode: "FRA", Priority: 30 }),
  exit("de-fra-3", { ...GERMANY, City: "Frankfurt", CityCode: "FRA", Priority: 20 }),
  exit("de-ber-1", { ...GERMANY, City: "Berlin", CityCode: "BER", Priority: 20 }),
  exit("own-b"),
  exit("own-a"),
  { ...exit("laptop"), ExitNodeOption: false },
];

test("of each city the first choice is listed, of a country with several the best as “Any”, and all own nodes", async () => {
  const { code, rows } = await list(peers);
  expect(rows).toEqual([
    ["own-a", "-", "-"],
    ["own-b", "-", "-"],
    ["de-fra-2", "Germany", "Any"],
    ["de-ber-1", "Germany", "Berlin"],
    ["de-fra-2", "Germany", "Frankfurt"],
    ["se-got-1", "Sweden", "Gothenburg"],
  ]);
  expect(code).toBe(0);
});

test("the one in use is listed, whichever it is", async () => {
  const { rows } = await list(peers.map((one) => ({ ...one, ExitNode: one.HostName === "de-fra-1" })));
  expect(rows.filter(([, , city]) => city === "Frankfurt").map(([name]) => name)).toEqual([
    "de-fra-2",
    "de-fra-1",
  ]);
});

test.each(["--filter=germany", "--filter=Germany"])("%s lists all of a country", async (filter) => {
  const { code, rows } = await list(peers, filter);
  expect(rows).toEqual([
    ["de-fra-2", "Germany", "Any"],
    ["de-ber-1", "Germany", "Berlin"],
    ["de-fra-2", "Germany", "Frankfurt"],
    ["de-fra-3", "Germany", "Frankfurt"],
    ["de-fra-1", "Germany", "Frankfurt"],
  ]);
  expect(code).toBe(0);
});

test("a country without exit nodes is a sentence", async () => {
  expect(await list(peers, "--filter=Utopia")).toMatchObject({
    code: 1,
    stdout: "",
    stderr: 'no exit nodes found for "Utopia"\n',
  });
  expect(await list([], "--filter=Utopia")).toMatchObject({ code: 1, stderr: "no exit nodes found\n" });
});

test("an empty filter is none", async () => {
  expect((await list(peers, "--filter=")).rows).toEqual((await list(peers)).rows);
});

async function list(all: readonly PeerJson[], ...flags: readonly string[]) {
  const Peer = Object.fromEntries(all.map((one) => [one.ID, one]));
  const status = (): StatusJson => ({ ...emptyStatus, Peer });
  const outcome = await withDaemon({ status }, (socket) =>
    run(["exit-node", "list", "--socket", socket, ...flags]),
  );
  const rows = outcome.stdout
    .split("\n")
    .filter((line) => line.startsWith(" 100."))
    .map((line) => line.trim().split(/ {2,}/).slice(1, 4))
    .map(([name = "", country, city]) => [name.replace(".lab.example", ""), country, city]);
  return { ...outcome, rows };
}

function exit(name: string, location?: PeerJson["Location"]): PeerJson {
  if (sample.Self === null) throw new Error("the sample has no node of its own");
  return {
    ...sample.Self,
    ...{ ID: name, HostName: name, DNSName: `${name}.lab.example.`, ExitNodeOption: true, Online: true },
    ...(location === undefined ? {} : { Location: location }),
  };
}
