/**
 * The edition of answers that guests here give: what the language leaves open to an engine, which is V8 and ICU, and the
 * code that runs around a program, which is ours and GPU.js.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { AcceleratorInfo } from "../contracts/kernels.ts";
import packageJson from "../../package.json" with { type: "json" };
import { builtText } from "../built.ts";

const DIGEST_CHARACTERS = 12;
/** Of what kernels in JavaScript become for GPU.js (program/kernel/gpujs.ts): another number whenever that becomes another. */
export const KERNEL_LOWERING = 2;

let edition: string | undefined;

/** Of this process's own Node, which its executor processes run too: "v8-13.6.233.17-icu-78.3-0f3a…". */
export function guestEdition(): string {
  return (edition ??= makeEdition());
}

/** The edition of an executor whose kernels run on such a GPU. */
export function acceleratedEdition({ engineClass }: AcceleratorInfo): string {
  return `${guestEdition()}-${engineClass}`;
}

function makeEdition(): string {
  // As text, because loading it takes longer than anything else that a short command does.
  const code = readFileSync(builtText(new URL("./guest/source.ts", import.meta.url)));
  const guest = createHash("sha256")
    .update(code)
    .update(`${packageJson.devDependencies["gpu.js"]} ${KERNEL_LOWERING}`)
    .digest("hex")
    .slice(0, DIGEST_CHARACTERS);
  const v8 = process.versions.v8.replace(/-.*$/, "");
  return `v8-${v8}-icu-${process.versions["icu"] ?? "none"}-${guest}`;
}
