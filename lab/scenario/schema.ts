/** `npm run scenario-schema`: writes the JSON schema of scenarios, which editors read. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { scenarioJsonSchema } from "./scenario.ts";

const file = fileURLToPath(new URL("scenario.schema.json", import.meta.url));
writeFileSync(file, `${JSON.stringify(scenarioJsonSchema(), undefined, 2)}\n`);
