/** How often kernels used up their time on a GPU, or ended its process; of so many that strangers cannot fill the memory with them. */
import { GPU_STRIKES_MAX, GPU_STRIKES_KEPT_MAX } from "../limits.ts";

export class Strikes {
  /** By module, the one struck least recently first. */
  readonly #counts = new Map<string, number>();

  isBarred(module: string): boolean {
    return (this.#counts.get(module) ?? 0) >= GPU_STRIKES_MAX;
  }

  add(module: string): void {
    const count = (this.#counts.get(module) ?? 0) + 1;
    this.#counts.delete(module);
    this.#counts.set(module, count);
    if (this.#counts.size > GPU_STRIKES_KEPT_MAX) this.#counts.delete(this.#least());
  }

  /** To be forgotten: one that may do better, as long as there is any but the one struck last. */
  #least(): string {
    const modules = [...this.#counts.keys()];
    return modules.slice(0, -1).find((module) => !this.isBarred(module)) ?? modules[0]!;
  }
}
