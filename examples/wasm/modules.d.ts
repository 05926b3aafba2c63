/** What a program gets that imports a WebAssembly module: `pfs run` knows this by itself, an editor by a file like this. */
declare module "*.wasm" {
  const module: import("packetfs").WasmModule;
  export default module;
}
