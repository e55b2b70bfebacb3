import { HEALTH_TAG_CHANGES, HEALTH_TAG_KEYS } from "../../constructs/health-tags.ts";

test.each(HEALTH_TAG_KEYS)("%s is a key that EC2 takes and that instance metadata can offer", (key) => {
  expect(key).toMatch(/^sallyport:[a-z]+$/);
  expect(HEALTH_TAG_CHANGES).toContain(`tags["${key}"]`);
});

test("no key stands twice", () => {
  expect(new Set(HEALTH_TAG_KEYS).size).toBe(HEALTH_TAG_KEYS.length);
});
