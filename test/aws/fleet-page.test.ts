/** The page of `sallyport fleet --web` in a real Chromium. */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { millis, wallTime } from "../../agent/src/base/time.ts";
import { type FleetInstance, fleetOf } from "../../agent/src/health/fleet.ts";
import { type FleetWeb, startFleetWeb } from "../../agent/src/io/fleet-web.ts";
import { requires } from "../skip.ts";
import { written } from "./nodes.ts";

const program = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const it = requires("chromium", program !== undefined, "install the package chromium");
const CHECKS = readFileSync(join(__dirname, "page-checks.mjs"), "utf8");
/** Where the picture goes that the README shows; set to renew it. */
const PICTURES = process.env["SALLYPORT_PICTURES"];

let browser: Browser;
let web: FleetWeb;
let context: BrowserContext;
let page: Page;
let fleet: FleetInstance[];
let asked: string[];
let errors: string[];

beforeAll(async () => {
  if (program === undefined) return;
  // Tests run as root, where Chromium's sandbox does not.
  browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
}, 60_000);
afterAll(() => browser?.close());

beforeEach(async () => {
  if (program === undefined) return;
  fleet = [
    node("us-east-1", "i-07d2e94b6a15c8f30", "nyc", { "sallyport:peers": "12/12 direct" }),
    node("eu-central-1", "i-0a51c3f0d9b7e2481", "fra"),
    node("eu-central-1", "i-0c44b9e1f7d3a6052", "ber", {
      "sallyport:path": "idle",
      "sallyport:peers": "0/0 direct",
    }),
    node("ap-south-1", "i-05e8d1c7b2f9a3640", "bom", {
      "sallyport:health": "udp-blocked",
      "sallyport:path": "relay:nyc",
      "sallyport:peers": "0/4 direct",
    }),
  ];
  await serve("127.0.0.1", 0);
  await open();
}, 60_000);
afterEach(async () => {
  await context?.close();
  await web?.close();
});

async function serve(host: string, port: number): Promise<void> {
  const read = () => {
    const now = wallTime(Date.now());
    const regions = ["ap-south-1", "eu-central-1", "us-east-1"];
    return Promise.resolve(fleetOf({ at: now, regions, instances: fleet, failures: [] }));
  };
  web = await startFleetWeb({ host, port, token: undefined, interval: millis(300), read });
}

function node(
  region: string,
  instanceId: string,
  name: string,
  changes: Readonly<Record<string, string>> = {},
): FleetInstance {
  const updated = `${new Date().toISOString().slice(0, 19)}Z`;
  const tags = new Map(Object.entries({ ...written(), "sallyport:updated": updated, ...changes }));
  return { region, zone: `${region}a`, instanceId, name, tags };
}

async function open(options: Parameters<Browser["newContext"]>[0] = {}): Promise<void> {
  [asked, errors] = [[], []];
  context = await browser.newContext({ viewport: { width: 1180, height: 760 }, ...options });
  page = await context.newPage();
  page.on("request", (request) => asked.push(request.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(web.urls[0]);
  await page.waitForSelector("tbody tr");
}

const textOf = (selector: string) => page.locator(selector).innerText();
const rowOf = (id: string) => page.locator(`[data-instance="${id}"]`);
const FRA = "i-0a51c3f0d9b7e2481";

it("regions, nodes and their paths are shown, and nobody else is asked", async () => {
  expect(await page.locator("h2").allInnerTexts()).toEqual(
    expect.arrayContaining(["ap-south-1", "eu-central-1", "us-east-1"]),
  );
  expect(await rowOf(FRA).innerText()).toMatch(
    /fra\s+direct\s+ok\s+3\/3 direct\s+> \d+ s\s+nyc\s+203\.0\.113\.5:41641/,
  );
  expect(await textOf("#state")).toMatch(/^4 nodes in 3 regions, read at /);
  expect(await page.getByRole("button", { name: "1 unhealthy" }).count()).toBe(1);
  expect(asked.every((url) => url.startsWith(web.urls[0]))).toBe(true);
  expect(errors).toEqual([]);
}, 60_000);

it("a change is shown while one looks: path, since when, and in the history", async () => {
  fleet[1] = node("eu-central-1", FRA, "fra", {
    "sallyport:path": "relay:nyc",
    "sallyport:peers": "0/3 direct",
  });
  await rowOf(FRA).filter({ hasText: "relay:nyc" }).waitFor();
  expect(await page.locator("#changes li").first().innerText()).toMatch(
    /eu-central-1 fra: path direct → relay:nyc$/,
  );
  expect(await rowOf(FRA).locator("td").nth(3).innerText()).toMatch(/^\d+ s$/);
  fleet.splice(0, 1);
  await rowOf("i-07d2e94b6a15c8f30").waitFor({ state: "detached" });
  expect(await page.locator("#changes li").first().innerText()).toMatch(/us-east-1 nyc: gone, was direct$/);
}, 60_000);

it("what others write into tags is text and nothing else", async () => {
  const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  fleet.push(
    node("eu-central-1", "i-0bad", hostile, {
      "sallyport:path": hostile,
      "sallyport:endpoint": `"><b>x</b>`,
    }),
  );
  fleet.push(
    node("eu-central-1", `i-1"]<b>`, "\u202eevil\u0000", { "sallyport:health": "javascript:alert(1)" }),
  );
  await page.locator("tbody tr").nth(5).waitFor();
  expect(await page.title()).toBe("Sallyport fleet");
  expect(await page.locator("img, tbody b, tbody script").count()).toBe(0);
  expect(await rowOf("i-0bad").innerText()).toContain("<img src=x");
  expect(await rowOf("i-0bad").innerText()).toMatch(/unknown\s+unknown \(malformed\)/);
  expect(errors).toEqual([]);
}, 60_000);

it("it is used by keyboard alone: search, filters, and tables that scroll", async () => {
  await page.keyboard.press("Tab");
  expect(await focused()).toBe("Search");
  await page.keyboard.type("fra");
  expect(await visible()).toEqual([FRA]);
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Delete");
  await page.keyboard.press("Tab");
  expect(await focused()).toBe("1 unhealthy");
  await page.keyboard.press("Space");
  expect(await visible()).not.toContain("i-05e8d1c7b2f9a3640");
  expect(await page.locator(":focus").getAttribute("aria-pressed")).toBe("false");
  expect(await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")).toBe("solid");
  for (let i = 0; i < 6; i++) await page.keyboard.press("Tab");
  expect(await page.locator(":focus").getAttribute("role")).toBe("region");
}, 60_000);

it.each(["light", "dark"] as const)(
  "in %s every text has contrast enough, every control a name, and ids stand once",
  async (colorScheme) => {
    await context.close();
    await open({ colorScheme });
    expect(await page.evaluate(CHECKS)).toEqual([]);
    expect(await page.locator("html").getAttribute("lang")).toBe("en");
  },
  60_000,
);

it("on a phone nothing is cut off, and controls are big enough for a thumb", async () => {
  await context.close();
  await open({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  const tooWide = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth");
  expect(tooWide).toBe(false);
  const heights = await page
    .locator("button, input")
    .evaluateAll((all) => all.map((one) => one.getBoundingClientRect().height));
  expect(Math.min(...heights)).toBeGreaterThanOrEqual(44);
  expect(await rowOf(FRA).innerText()).toMatch(/fra[\s\S]*direct/);
}, 60_000);

it("a lost connection is said, and won back", async () => {
  const { port } = new URL(web.urls[0]);
  await web.close();
  await page.locator("#state", { hasText: "connection is lost" }).waitFor();
  fleet.splice(1, 1);
  await serve("127.0.0.1", Number(port));
  await rowOf(FRA).waitFor({ state: "detached", timeout: 15_000 });
}, 60_000);

it("a page whose address holds no longer says so, and goes on saying so", async () => {
  await context.close();
  await web.close();
  await serve("0.0.0.0", 0);
  await open();
  const { port } = new URL(web.urls[0]);
  await web.close();
  await serve("0.0.0.0", Number(port)); // with another token
  await page.locator("#state", { hasText: "no longer live" }).waitFor({ timeout: 15_000 });
  await page.evaluate("draw()"); // as every five seconds
  expect(await textOf("#state")).toMatch(/no longer live: open the address .* printed last \(4 nodes in/);
}, 60_000);

it("the history goes on after more changes than are kept", async () => {
  for (let i = 0; i < 520; i++) fleet.push(node("us-east-1", `i-${i}`, `n${i}`));
  await page.locator("tbody tr").nth(523).waitFor();
  expect(await page.locator("#changes li").count()).toBe(500);
  fleet[1] = node("eu-central-1", FRA, "fra", { "sallyport:path": "relay:nyc" });
  await page.locator("#changes li").first().filter({ hasText: "fra: path direct → relay:nyc" }).waitFor();
  expect(await page.locator("#changes li").count()).toBe(500);
}, 60_000);

it("it looks like the picture in the README", async () => {
  fleet[1] = node("eu-central-1", FRA, "fra", { "sallyport:path": "mixed", "sallyport:peers": "2/3 direct" });
  await page.waitForSelector("#changes li");
  const picture = await page.screenshot();
  expect(picture.subarray(1, 4).toString()).toBe("PNG");
  expect(picture.length).toBeGreaterThan(10_000);
  if (PICTURES !== undefined) {
    mkdirSync(PICTURES, { recursive: true });
    await page.screenshot({ path: join(PICTURES, "fleet.png") });
    expect(readFileSync(join(PICTURES, "fleet.png")).length).toBeLessThan(200_000);
  }
}, 60_000);

const focused = () =>
  page.locator(":focus").evaluate((element) => element.getAttribute("aria-label") ?? element.textContent);
const visible = () =>
  page
    .locator("tbody tr:visible")
    .evaluateAll((rows) => rows.map((row) => row.getAttribute("data-instance")));
