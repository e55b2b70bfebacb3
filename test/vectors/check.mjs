// Lists the cases in the vector files that no test of a full run read, and fails if there are any.
//   SALLYPORT_VECTOR_READS=<folder> npx jest && node test/vectors/check.mjs <folder>
import { tsImport } from "tsx/esm/api";

const [readsFolder] = process.argv.slice(2);
if (readsFolder === undefined) {
  process.stderr.write(
    "Say which folder SALLYPORT_VECTOR_READS named: node test/vectors/check.mjs <folder>\n",
  );
  process.exit(2);
}
const { unreadCases } = await tsImport("./unread.ts", import.meta.url);
const unread = unreadCases(readsFolder, import.meta.dirname);
if (unread.length > 0) {
  process.stdout.write(
    `No test reads these cases in test/vectors:\n${unread.map((name) => `  ${name}\n`).join("")}`,
  );
  process.exitCode = 1;
}
