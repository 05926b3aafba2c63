import { describe, expect, it } from "vitest";
import {
  displayWidth,
  formatBytes,
  formatDuration,
  formatRate,
  formatShare,
  formatTransfer,
  pad,
  parseBytes,
  plural,
  printable,
  truncate,
  wrapAll,
  wrapWords,
} from "../../../sdk/cli/format.ts";
import { columnWidths, tableLine } from "../../../sdk/cli/output.ts";
import type { Column } from "../../../sdk/cli/output.ts";

describe("sizes and times", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1 kB"],
    [12_345_678, "12.3 MB"],
    [999_600, "1 MB"],
    [1e9, "1 GB"],
    [2 ** 53 - 1, "9.01 PB"],
  ])("%d bytes are %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it.each([
    [42, "42ms"],
    [4200, "4.2s"],
    [59_600, "59.6s"],
    [65_432, "1m 5s"],
    [185_000, "3m 5s"],
    [7_830_000, "2h 10m"],
    [4 * 86_400_000, "4d"],
  ])("%d ms are %s", (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text);
  });

  it("how long ago something was takes one unit", () => {
    expect([1_900, 185_000, 7_830_000].map((age) => formatDuration(age, 1))).toEqual(["1s", "3m", "2h"]);
  });

  it("a rate has no more digits than a size", () => {
    expect([formatRate(925, 17_000), formatRate(3e9, 2000)]).toEqual(["54.4 B/s", "1.5 GB/s"]);
  });

  it.each([
    ["65536", 65_536],
    ["64KiB", 65_536],
    ["64 kb", 64_000],
    ["4M", 4_000_000],
    ["1.5MiB", 1_572_864],
    ["1g", 1e9],
  ])("%s is read as %d bytes", (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  it.each([
    "",
    "0",
    "-1",
    "+1",
    "1e9",
    "0x10",
    " 5",
    "5 ",
    "5.0",
    "1.5b",
    "9007199254740993",
    "four",
    "4 MB of it",
    "4  MB",
    "99999999999G",
    "0.0001k",
  ])("%j is no size", (text) => {
    expect(parseBytes(text)).toBeUndefined();
  });

  it("counts in the singular and the plural", () => {
    expect([plural(0, "chunk"), plural(1, "chunk"), plural(1234, "chunk")]).toEqual([
      "0 chunks",
      "1 chunk",
      "1,234 chunks",
    ]);
  });
});

describe("what a transfer cost", () => {
  const transfer = {
    peer: "hub",
    encrypted: true,
    wireBytes: { sent: 12_000, received: 400 },
    chunks: { reused: 1, patched: 3, compressed: 1000 },
    ratio: 85.99,
  };

  it("is told with what made it less, and never as less than it is", () => {
    expect(formatTransfer(transfer)).toBe(
      "12 kB sent, 400 B received (1 : 85): 1 chunk reused, 3 patched, 1,000 compressed",
    );
    expect(formatTransfer({ ...transfer, ratio: 0.9996 })).toContain("(1 : 0.99)");
    expect(formatTransfer({ ...transfer, ratio: 9.999 })).toContain("(1 : 9.99)");
    expect(formatShare(99_999, 100_000)).toBe("99 %");
  });

  it("says when it was not encrypted", () => {
    expect(formatTransfer({ ...transfer, encrypted: false })).toContain(
      "400 B received in the clear (1 : 85)",
    );
  });
});

describe("foreign text", () => {
  it("cannot steer the terminal or look like another line", () => {
    expect(printable("a\u001b[31mb\rc\nd\te")).toBe("a\\u001b[31mb\\rc\\nd\\te");
    expect(printable("exe\u202egpj.\u2066x")).toBe("exe\\u202egpj.\\u2066x");
    expect(printable("naïve 名前 🙂")).toBe("naïve 名前 🙂");
  });

  it("is measured in columns of the terminal, and cut at them", () => {
    expect([displayWidth("abc"), displayWidth("名前"), displayWidth("e\u0301"), displayWidth("🙂")]).toEqual([
      3, 4, 1, 2,
    ]);
    expect(truncate("名前.txt", 6)).toBe("名前.…");
    expect(truncate("short", 5)).toBe("short");
    expect(displayWidth("👩‍👩‍👧")).toBe(2);
    expect([pad("名", 4), pad("名", 4, "right"), pad("longer", 3)]).toEqual(["名  ", "  名", "longer"]);
  });
});

describe("a table", () => {
  const columns: readonly Column[] = [
    { title: "NAME", shrinks: true },
    { title: "SIZE", align: "right" },
    { title: "NOTE", shrinks: true },
  ];
  const rows = [
    ["名前.txt", "5 B", ""],
    ["a name that is long, and longer than others", "12.3 MB", "some note that is long, too"],
  ];

  it("aligns its columns, and leaves no trailing spaces", () => {
    const widths = columnWidths(columns, rows, 200);
    expect(rows.map((row) => tableLine(columns, widths, row))).toEqual([
      "名前.txt                                         5 B",
      "a name that is long, and longer than others  12.3 MB  some note that is long, too",
    ]);
  });

  it("breaks sentences between words", () => {
    expect(wrapWords("one two three", 13)).toBe("one two three");
    expect(wrapWords("one two three", 12, "  ")).toBe("one two\n  three");
    expect(wrapWords("a /path/that/is/long b", 8, "  ")).toBe("a\n  /path/that/is/long\n  b");
    expect(wrapAll("see /path/that/is/long b", 12)).toEqual(["see", "/path/that/", "is/long", "b"]);
    expect(wrapWords("名前 名前", 8)).toBe("名前\n名前");
  });

  it("fits the terminal by cutting what may be cut", () => {
    const widths = columnWidths(columns, rows, 40);
    const line = tableLine(columns, widths, rows[1]!);
    expect(displayWidth(line)).toBe(40);
    expect(line).toBe("a name that i…  12.3 MB  some note that…");
  });

  it("cuts what is shown again elsewhere before anything else", () => {
    const withId: readonly Column[] = [
      { title: "ADDRESS", shrinks: true },
      { title: "ID", shrinks: "first" },
    ];
    const row = ["hub.example.org:7400", "0123456789abcdef"];
    expect(tableLine(withId, columnWidths(withId, [row], 34), row)).toBe(
      "hub.example.org:7400  0123456789a…",
    );
    expect(tableLine(withId, columnWidths(withId, [row], 28), row)).toBe("hub.example.org:…  01234567…");
  });

  it("is not cut where the lines would not fit all the same", () => {
    const values = ["a key of some length", "12345", "x".repeat(50)];
    const wide: readonly Column[] = [...columns.slice(0, 2), { title: "VALUE" }];
    expect(columnWidths(wide, [values], 40)).toEqual([20, 5, 50]);
    expect(tableLine(wide, columnWidths(wide, [values], 40), values)).toContain(
      "a key of some length  12345",
    );
  });
});
