/**
 * Packages that are big and seldom needed stand apart: each file of this folder becomes a file of its own beside the agent's
 * bundle, which is loaded at the first `import()` of it. It names what is used of a package, and imports nothing of ours.
 */
export { GetParameterCommand, PutParameterCommand, SSMClient } from "@aws-sdk/client-ssm";
