/** What a program gets that imports such files: `pfs run` knows this by itself, an editor by a file like this. */
declare module "*.wgsl" {
  const source: string;
  export default source;
}
