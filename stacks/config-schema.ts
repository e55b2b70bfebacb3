/** `npm run config-schema`: writes sallyport.config.schema.json, from which editors know the configuration's fields. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { configJsonSchema } from "./config.ts";

const file = fileURLToPath(new URL("../sallyport.config.schema.json", import.meta.url));
writeFileSync(file, `${JSON.stringify(configJsonSchema(), undefined, 2)}\n`);
