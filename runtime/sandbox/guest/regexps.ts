/**
 * V8 has fast forms of splitting, replacing and matching by regular expressions, which it takes only as long as RegExp.prototype is
 * what it was: where that is frozen, they take up to twenty times as long. What stands here does what the language says
 * of them, by exec, which stays fast, for expressions that have nothing of their own; V8 does all others. (Its slow forms
 * do not end, besides, where the flag v meets an empty match before a character of two units.)
 */
import type { Primordials } from "./primordials.ts";

export function installRegExps(p: Primordials): void {
  const RealRegExp = RegExp;
  const prototype = RealRegExp.prototype;
  const { getPrototypeOf, getOwnPropertyDescriptor } = Object;
  const { ownKeys } = Reflect;
  const { apply } = p;
  type Method = (...args: never[]) => unknown;
  const getterOf = (name: string): Method =>
    (getOwnPropertyDescriptor(prototype, name) as { readonly get: Method }).get;
  const { exec } = prototype as { readonly exec: Method };
  const methodOf = (name: symbol): Method => (prototype as unknown as Record<symbol, Method>)[name]!;
  const matchBy = methodOf(Symbol.match);
  const splitBy = methodOf(Symbol.split);
  const replaceBy = methodOf(Symbol.replace);
  const sourceOf = getterOf("source");
  const flagsOf = getterOf("flags");
  const isGlobal = getterOf("global");
  const isUnicode = getterOf("unicode");
  const isUnicodeSets = getterOf("unicodeSets");
  const LENGTH_MAX = 4294967295;
  const SPLITTERS_MAX = 64;
  let splitters = new p.Map<string, RegExp>();

  /** Whatever is asked of it, the prototype says, which is frozen. */
  function isPlain(value: unknown): value is RegExp {
    if (typeof value !== "object" || value === null || getPrototypeOf(value) !== prototype) return false;
    const keys = ownKeys(value);
    return keys.length === 1 && keys[0] === "lastIndex";
  }

  function match(expression: RegExp, text: string): RegExpExecArray | null {
    return apply(exec, expression, [text]) as RegExpExecArray | null;
  }

  /** Where to look on after an empty match. */
  function behind(text: string, index: number, byPoints: boolean): number {
    if (!byPoints || index + 1 >= text.length) return index + 1;
    const unit = p.charCodeAt(text, index);
    if (unit < 0xd800 || unit > 0xdbff) return index + 1;
    const next = p.charCodeAt(text, index + 1);
    return next < 0xdc00 || next > 0xdfff ? index + 1 : index + 2;
  }

  function goesByPoints(expression: RegExp): boolean {
    return (apply(isUnicode, expression, []) || apply(isUnicodeSets, expression, [])) as boolean;
  }

  /** The same expression to look for matches with from anywhere on. Nobody else has it. */
  function splitterOf(expression: RegExp): RegExp {
    const source = apply(sourceOf, expression, []) as string;
    const flags = apply(flagsOf, expression, []) as string;
    const key = flags + "/" + source;
    const known = p.mapGet(splitters, key);
    if (known !== undefined) return known;
    let own = "g";
    for (let index = 0; index < flags.length; index++) {
      const flag = flags[index]!;
      if (flag !== "g" && flag !== "y" && flag !== "d") own += flag;
    }
    const splitter = new RealRegExp(source, own);
    if (p.mapSize(splitters) >= SPLITTERS_MAX) splitters = new p.Map();
    p.mapSet(splitters, key, splitter);
    return splitter;
  }

  function split(expression: RegExp, text: string, max: number): string[] {
    const parts: string[] = [];
    if (max === 0) return parts;
    const splitter = splitterOf(expression);
    const size = text.length;
    if (size === 0) {
      splitter.lastIndex = 0;
      if (match(splitter, text) === null) parts.push(text);
      return parts;
    }
    let from = 0;
    for (let at = 0; at < size;) {
      splitter.lastIndex = at;
      const found = match(splitter, text);
      if (found === null || found.index >= size) break;
      const { index } = found;
      const end = splitter.lastIndex;
      if (end === from) {
        at = index + 1;
        continue;
      }
      parts.push(p.slice(text, from, index));
      if (parts.length === max) return parts;
      for (let group = 1; group < found.length; group++) {
        parts.push(found[group]!);
        if (parts.length === max) return parts;
      }
      from = at = end;
    }
    parts.push(p.slice(text, from));
    return parts;
  }

  function matches(expression: RegExp, text: string): RegExpExecArray[] {
    const found: RegExpExecArray[] = [];
    const all = apply(isGlobal, expression, []) as boolean;
    if (!all) {
      const one = match(expression, text);
      if (one !== null) found.push(one);
      return found;
    }
    const byPoints = goesByPoints(expression);
    expression.lastIndex = 0;
    for (let one = match(expression, text); one !== null; one = match(expression, text)) {
      found.push(one);
      if (one[0] === "") expression.lastIndex = behind(text, expression.lastIndex, byPoints);
    }
    return found;
  }

  /** A template for what replaces a match. */
  function filled(template: string, one: RegExpExecArray, text: string): string {
    const groups = one.length - 1;
    let result = "";
    let from = 0;
    for (;;) {
      const at = p.indexOf(template, "$", from);
      if (at < 0 || at + 1 === template.length) return result + p.slice(template, from);
      result += p.slice(template, from, at);
      from = at + 2;
      const what = template[at + 1]!;
      if (what === "$") result += "$";
      else if (what === "&") result += one[0];
      else if (what === "`") result += p.slice(text, 0, one.index);
      else if (what === "'") result += p.slice(text, one.index + one[0].length);
      else if (what === "<" && one.groups !== undefined && p.indexOf(template, ">", from) >= 0) {
        const stop = p.indexOf(template, ">", from);
        result += one.groups[p.slice(template, from, stop)] ?? "";
        from = stop + 1;
      } else {
        const first = digit(template, at + 1);
        const second = digit(template, at + 2);
        const both = first < 0 || second < 0 ? 0 : first * 10 + second;
        const isBoth = both > 0 && both <= groups;
        const group = isBoth ? both : first;
        if (isBoth) from = at + 3;
        if (group > 0 && group <= groups) result += one[group] ?? "";
        else {
          result += "$";
          from = at + 1;
        }
      }
    }
  }

  function digit(text: string, at: number): number {
    const unit = at < text.length ? p.charCodeAt(text, at) : 0;
    return unit >= 48 && unit <= 57 ? unit - 48 : -1;
  }

  function replace(expression: RegExp, text: string, by: string | Method): string {
    const found = matches(expression, text);
    const isTemplate = typeof by === "string" && p.indexOf(by, "$") >= 0;
    let replaced = "";
    let from = 0;
    for (let at = 0; at < found.length; at++) {
      const one = found[at]!;
      const { index, groups } = one;
      let own: unknown = by;
      if (isTemplate) own = filled(by, one, text);
      else if (typeof by === "function") {
        const args: unknown[] = [...one, index, text];
        if (groups !== undefined) args.push(groups);
        own = apply(by, undefined, args);
      }
      // What was found lies behind what was found before it.
      replaced += p.slice(text, from, index) + `${own as string}`;
      from = index + one[0].length;
    }
    return from === 0 && replaced === "" ? text : replaced + p.slice(text, from);
  }

  const methods = {
    [Symbol.match](this: unknown, text: unknown): unknown {
      if (typeof text !== "string" || !isPlain(this)) return apply(matchBy, this, [text]);
      if (!(apply(isGlobal, this, []) as boolean)) return match(this, text);
      const found = matches(this, text);
      const texts: string[] = [];
      for (let index = 0; index < found.length; index++) texts.push(found[index]![0]);
      return texts.length === 0 ? null : texts;
    },
    [Symbol.split](this: unknown, text: unknown, max: unknown): unknown {
      const isOurs = typeof text === "string" && (max === undefined || typeof max === "number");
      // By code points, exec finds some empty matches within a character, which no split has.
      if (!isOurs || !isPlain(this) || goesByPoints(this)) return apply(splitBy, this, [text, max]);
      return split(this, text, max === undefined ? LENGTH_MAX : max >>> 0);
    },
    [Symbol.replace](this: unknown, text: unknown, by: unknown): unknown {
      // To make text of an object is to call it.
      if (typeof text !== "string" || typeof by === "object" || !isPlain(this)) {
        return apply(replaceBy, this, [text, by]);
      }
      return replace(this, text, typeof by === "function" ? (by as Method) : `${by as string}`);
    },
  };
  for (const name of [Symbol.match, Symbol.split, Symbol.replace] as const) {
    p.defineProperty(prototype, name, {
      value: methods[name],
      writable: true,
      configurable: true,
      enumerable: false,
    });
  }
}
