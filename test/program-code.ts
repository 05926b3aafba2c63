/** Programs as tests write them: modules without imports, given to the sandbox without esbuild. */

/** What bundling makes of such a module: the text of a function that leaves the program in `$exports.default`. */
export function programCode(source: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(source.replaceAll("export default ", "$exports.default = "));
}
