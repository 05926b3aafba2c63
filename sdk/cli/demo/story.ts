/** What the demo tells people: numbered steps, what comes of them, and what they have just seen. */
import { styleText } from "node:util";
import { wrapWords } from "../format.ts";
import type { Output } from "../output.ts";

const COLUMNS = 80;
export const INDENT = "   ";

/** Prints what happens, in lines of at most 80 columns. */
export class Story {
  readonly #output: Output;
  #step = 0;
  #isWrong = false;

  constructor(output: Output) {
    this.#output = output;
  }

  /** Some answer was not what it had to be. */
  get isWrong(): boolean {
    return this.#isWrong;
  }

  async title(text: string): Promise<void> {
    await this.#output.line(styleText("bold", text, { stream: process.stdout }));
  }

  async step(title: string): Promise<void> {
    const number = styleText(["bold", "cyan"], `${++this.#step}`, { stream: process.stdout });
    const wrapped = wrapWords(title, COLUMNS - INDENT.length, INDENT);
    await this.#output.line(`\n${number}  ${styleText("bold", wrapped, { stream: process.stdout })}`);
  }

  async say(text = ""): Promise<void> {
    await this.#output.line(text === "" ? "" : wrapWords(text, COLUMNS, INDENT));
  }

  /** A line of a step; what has no room in it goes on below. */
  async tell(text: string): Promise<void> {
    await this.#output.line(INDENT + wrapWords(text, COLUMNS - INDENT.length, `${INDENT}  `));
  }

  /** A line that is laid out already. */
  async show(text: string): Promise<void> {
    await this.#output.line(text);
  }

  /** What a person has just seen, in a sentence. */
  async saw(sentence: string): Promise<void> {
    const wrapped = wrapWords(`▸ ${sentence}`, COLUMNS - INDENT.length, `${INDENT}  `);
    await this.#output.line(INDENT + styleText("cyan", wrapped, { stream: process.stdout }));
  }

  /** An answer, and whether it is the right one. */
  async check(isRight: boolean, text: string): Promise<void> {
    this.#isWrong ||= !isRight;
    const mark = isRight ? styleText("green", "✓", { stream: process.stdout }) : this.#wrongMark();
    await this.#output.line(
      `${INDENT}${mark} ${wrapWords(text, COLUMNS - INDENT.length - 2, `${INDENT}  `)}`,
    );
  }

  #wrongMark(): string {
    return styleText("red", "✗ NOT", { stream: process.stdout });
  }
}
