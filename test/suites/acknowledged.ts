/**
 * What names may hold by what was acknowledged, as somebody knows it who is not killed. A change that was begun may have
 * happened, until a later one of the same name is acknowledged; one that was acknowledged has happened.
 */
export const REMOVED = "removed";

export class Acknowledged {
  readonly #allowed = new Map<string, readonly string[]>();
  /** Changes that were acknowledged. */
  count = 0;

  get names(): string[] {
    return [...this.#allowed.keys()].toSorted();
  }

  /** The contents that the name may have, the oldest first. */
  of(name: string): readonly string[] {
    return this.#allowed.get(name) ?? [REMOVED];
  }

  /** By name, the contents that it may have now. */
  snapshot(): ReadonlyMap<string, readonly string[]> {
    return new Map(this.#allowed);
  }

  begun(name: string, content: string): void {
    this.#allowed.set(name, [...this.of(name), content]);
  }

  acknowledged(name: string, content: string): void {
    this.#allowed.set(name, [content]);
    this.count++;
  }

  /** It has this content, which is one that it may have, and nothing that was begun is still under way. */
  settled(name: string, content: string): void {
    this.#allowed.set(name, [content]);
  }
}
