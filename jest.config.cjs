/** Tests that own namespaces, processes or minutes: bin/test.mjs runs them one after the other. */
const REAL = ["test/lab/", "test/interop/", "test/aws/"];

const shared = {
  rootDir: __dirname,
  testEnvironment: "node",
  // @noble/* and a few others are published as ES modules only.
  transformIgnorePatterns: ["/node_modules/(?!@noble/)"],
  modulePathIgnorePatterns: ["<rootDir>/dist/", "<rootDir>/cdktf.out/"],
  transform: {
    "\\.m?[jt]s$": [
      "@swc/jest",
      { jsc: { target: "es2023", parser: { syntax: "typescript" } }, module: { type: "commonjs" } },
    ],
  },
};

module.exports = {
  // A hang should fail, a machine that has much to do should not.
  testTimeout: 30_000,
  projects: [
    {
      ...shared,
      displayName: "quick",
      testMatch: ["<rootDir>/test/**/*.test.ts"],
      testPathIgnorePatterns: ["/node_modules/", ...REAL.map((folder) => `<rootDir>/${folder}`)],
    },
    {
      ...shared,
      displayName: "real",
      testMatch: REAL.map((folder) => `<rootDir>/${folder}**/*.test.ts`),
    },
  ],
};
