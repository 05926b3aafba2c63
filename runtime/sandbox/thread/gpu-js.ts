/** GPU.js as isolates get it: a script, whose text is read from what was built. */
import { readFileSync } from "node:fs";
import { builtGpuJs } from "../../built.ts";

/** What it is called in stacks. */
export const GPU_JS_FILE = "packetfs:gpu.js";

/** A script whose value is a function of one parameter: what `use`, the text of a function, makes of GPU.js and that. */
export function gpuJsScript(use: string): string {
  return `"use strict";
(() => {
  const module = { exports: {} };
  (function (module, exports, define) {
${readFileSync(builtGpuJs(), "utf8")}
  })(module, module.exports);
  const use = (${use});
  return (given) => use(module.exports, given);
})()`;
}
