/** What users run: the package as npm installs it, which has no sources to look after. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT: string = fileURLToPath(new URL("../..", import.meta.url));
/** From here, what it depends on is found where this checkout has it. */
const FOLDER: string = join(ROOT, "node_modules/.cache");

export class InstalledPackage implements Disposable {
  /** The command line's path. */
  readonly main: string;
  readonly #directory: string;

  /** Packs this checkout, and unpacks that. */
  constructor() {
    mkdirSync(FOLDER, { recursive: true });
    this.#directory = mkdtempSync(join(FOLDER, "bench-"));
    const said = execFileSync("npm", ["pack", "--json", "--pack-destination", this.#directory], {
      cwd: ROOT,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [{ filename }] = JSON.parse(said.slice(said.indexOf("[\n"))) as [{ filename: string }];
    execFileSync("tar", ["-xzf", filename], { cwd: this.#directory });
    this.main = join(this.#directory, "package/sdk/bin/pfs.mjs");
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
