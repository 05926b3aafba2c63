/** pfs sync and pfs diff, and what put, get and ls have to do with directories. */
import { stat } from "node:fs/promises";
import { Command } from "commander";
import { hasCode } from "../../packets/errors.ts";
import { TreeFilter } from "../../runtime/tree/filter.ts";
import { UsageError } from "../errors.ts";
import type { PacketFS, TransferInfo, Tree, TreeDifference, TreeEntryInfo, TreeRule } from "../packetfs.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatTime,
  formatTransfer,
  isoTime,
  printable,
} from "./format.ts";
import { example } from "./help.ts";
import { checkName, option } from "./options.ts";
import type { Column, ListItem } from "./output.ts";
import { Progress } from "./progress.ts";

const TREE_OPERAND = "a stored directory, or one in it (NAME/PATH)";

/** --include and --exclude: their order says which rule goes first, so both add to one list. */
export function filterOptions(command: Command): () => readonly TreeRule[] {
  const rules: TreeRule[] = [];
  const rule = (kind: TreeRule["kind"]): Parameters<typeof option>[3] => ({
    parse: (pattern) => {
      // A pattern that is none shows before anything is opened.
      new TreeFilter([{ kind, pattern }]);
      rules.push({ kind, pattern });
      return pattern;
    },
    takes: "a pattern",
    isList: true,
  });
  command
    .addOption(
      option(
        "--exclude <PATTERN>",
        "leave out paths of a directory that fit, as in .gitignore: *.o at any depth, /build in the directory itself, tmp/ directories alone, ** through any number of them",
        "PACKETFS_EXCLUDE",
        rule("exclude"),
      ),
    )
    .addOption(
      option(
        "--include <PATTERN>",
        "take those that fit; of all these options, the first that fits decides",
        "PACKETFS_INCLUDE",
        rule("include"),
      ),
    );
  return () => rules;
}

export function checksumOption(): ReturnType<typeof option> {
  return option(
    "--checksum",
    "compare bytes, also of files of a directory whose length and time are the same",
    "PACKETFS_CHECKSUM",
  );
}

/** The files as programs can read them: one of a stored directory is stored by itself, under no name, which takes no room if it is large. */
export async function filesByThemselves(
  { signal }: Context,
  pfs: PacketFS,
  files: readonly string[],
): Promise<string[]> {
  const found: string[] = [];
  for (const file of files) {
    const isStored = !file.includes("/") || (await isThere(pfs.stat(file)));
    if (isStored) found.push(file);
    else found.push((await pfs.put(pfs.get(file, { signal }), { signal })).root);
  }
  return found;
}

async function isThere(looking: Promise<unknown>): Promise<boolean> {
  try {
    await looking;
    return true;
  } catch (error) {
    if (hasCode(error, "PFS_NOT_FOUND")) return false;
    throw error;
  }
}

// ── sync ─────────────────────────────────────────────────────────────────────────────────────────────────────────

interface SyncCommandOptions {
  readonly delete?: boolean;
  readonly dryRun?: boolean;
  readonly checksum?: boolean;
}

export function syncCommand(host: Host): Command {
  const command = new Command("sync")
    .summary("make a stored directory like one here, or the other way")
    .description(
      "Make the second directory equal to the first: one of them is stored, the other one is here (write ./DIR where it could be either). Only what differs is stored or written: by length and time of modification, or with --checksum by its bytes. What the first one has not stays in the second, unless --delete is there.",
    )
    .argument("<FROM>", "a directory, or the name of a stored one")
    .argument("<TO>", "the name of a stored directory, or a directory")
    .addOption(
      option("--delete", "remove from the second directory what the first one has not", "PACKETFS_DELETE"),
    )
    .addOption(option("--dry-run", "say what would change, and change nothing", "PACKETFS_DRY_RUN"))
    .addOption(checksumOption())
    .addHelpText("after", example("pfs sync ./site site --delete --exclude .git/"));
  const rules = filterOptions(command);
  return onRun<SyncCommandOptions>(command, host, async (context, [from = "", to = ""], options) => {
    // Where something is written to a path of this machine there is a store already.
    const pfs = await context.open({ creates: !PATH.test(to), reachesNodes: true });
    const how = {
      filter: rules(),
      deletes: options.delete === true,
      dryRun: options.dryRun === true,
      checksum: options.checksum === true,
      signal: context.signal,
    };
    const isStoring = await goesToStore(pfs, from, to, context.signal);
    const progress = new Progress(context.output, printable(isStoring ? to : from));
    const onProgress = (done: number, total: number): void => progress.update(done, total);
    const startedAt = performance.now();
    if (isStoring) {
      checkName(to);
      const onSkipped = (path: string, reason: string): void =>
        context.output.talk(`left out ${printable(path)}: ${reason}`);
      const { changes, root, version, transfer } = await pfs.syncTree(from, to, {
        ...how,
        onProgress,
        onSkipped,
      });
      progress.end();
      await tellChanges(context, changes, {
        dryRun: how.dryRun,
        startedAt,
        transfer,
        json: { name: to, root, version },
      });
    } else {
      const tree = await pfs.openTree(from, { signal: context.signal });
      const { changes, files, bytes, transfer } = await tree.write(to, { ...how, sync: true, onProgress });
      progress.end();
      await tellChanges(context, changes, {
        dryRun: how.dryRun,
        startedAt,
        transfer,
        json: { path: to, files, bytes },
      });
    }
  });
}

/** Spelled as a path of this machine, and as nothing that is stored. */
const PATH = /^(\.{0,2}\/|\.{1,2}$)|\/$/;

/** Whether the directory of this machine is the first of the two. Rejects with PFS_USAGE where that cannot be told. */
async function goesToStore(pfs: PacketFS, from: string, to: string, signal: AbortSignal): Promise<boolean> {
  const [isFromPath, isToPath] = [PATH.test(from), PATH.test(to)];
  if (isFromPath && isToPath)
    throw new UsageError("both are directories of this machine; one has to be a stored one");
  if (isFromPath !== isToPath) return isFromPath;
  const isHere = await stat(from).then(
    (found) => found.isDirectory(),
    () => false,
  );
  const isStored = await pfs.openTree(from, { signal }).then(
    () => true,
    (error: unknown) => {
      if (hasCode(error, "PFS_NOT_FOUND") || hasCode(error, "PFS_NOT_A_TREE")) return false;
      throw error;
    },
  );
  if (isHere && isStored)
    throw new UsageError(
      `${from} is a directory here and a stored one; write ./${from} for the one that is here`,
    );
  return isHere || !isStored;
}

// ── diff ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export function diffCommand(host: Host): Command {
  const command = new Command("diff")
    .summary("what differs between two stored directories")
    .description(
      'List what differs between two stored directories or versions of one, by path: "+" was added, "-" removed, "~" changed, "m" has another mode, "t" another time of modification alone.',
    )
    .argument("<BEFORE>", TREE_OPERAND)
    .argument("<AFTER>", "another, such as NAME@3")
    .addHelpText("after", example("pfs diff site@2 site@3"));
  return onRun(command, host, async (context, [before = "", after = ""]) => {
    const { output, signal } = context;
    const pfs = await context.open();
    const [old, now] = [await pfs.openTree(before, { signal }), await pfs.openTree(after, { signal })];
    const count = { added: 0, removed: 0, changed: 0, mode: 0, time: 0 };
    for await (const difference of old.diff(now, { signal })) {
      count[difference.change]++;
      await tellChange(context, difference);
      if (output.readerGone.aborted) return;
    }
    if (!output.json) output.talk(summary(count));
  });
}

const SIGNS = { added: "+", removed: "-", changed: "~", mode: "m", time: "t" } as const;

async function tellChange({ output }: Context, { change, path, type }: TreeDifference): Promise<void> {
  if (output.json) return output.object({ change, path, type });
  await output.line(`${SIGNS[change]} ${printable(path)}${type === "directory" ? "/" : ""}`);
}

function summary(count: Readonly<Record<TreeDifference["change"], number>>): string {
  const parts = [
    `${formatCount(count.added)} added`,
    `${formatCount(count.removed)} removed`,
    `${formatCount(count.changed)} changed`,
    ...(count.mode === 0 ? [] : [`${formatCount(count.mode)} with another mode`]),
    ...(count.time === 0 ? [] : [`${formatCount(count.time)} with another time`]),
  ];
  return Object.values(count).every((each) => each === 0) ? "nothing differs" : parts.join(", ");
}

async function tellChanges(
  context: Context,
  changes: readonly TreeDifference[],
  {
    dryRun,
    startedAt,
    transfer,
    json,
  }: {
    dryRun: boolean;
    startedAt: number;
    transfer: TransferInfo | undefined;
    json: Readonly<Record<string, unknown>>;
  },
): Promise<void> {
  const { output } = context;
  const count = { added: 0, removed: 0, changed: 0, mode: 0, time: 0 };
  for (const difference of changes) {
    count[difference.change]++;
    if (dryRun || output.verbose || output.json) await tellChange(context, difference);
  }
  const milliseconds = Math.round(performance.now() - startedAt);
  if (output.json) {
    const all = { ...json, ...count, dryRun, milliseconds };
    return output.object(transfer === undefined ? all : { ...all, transfer });
  }
  if (dryRun) return output.talk(`would be: ${summary(count)}`);
  const cost = transfer === undefined ? "" : `: ${formatTransfer(transfer)}`;
  output.talk(`${summary(count)}, in ${formatDuration(milliseconds)}${cost}`);
}

// ── ls ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const COLUMNS: readonly Column[] = [
  { title: "MODE" },
  { title: "SIZE", align: "right" },
  { title: "MODIFIED" },
  { title: "NAME", shrinks: "first" },
];

/** Lists what is in a stored directory, or the one file that is named. */
export async function listTree(context: Context, tree: Tree, isRecursive: boolean): Promise<void> {
  await context.output.list(COLUMNS, treeItems(context, tree, isRecursive));
}

function* treeItems(
  { output: { isTerminal } }: Context,
  tree: Tree,
  isRecursive: boolean,
): Generator<ListItem> {
  const isFile = tree.entry()?.type !== "directory";
  for (const entry of tree.entries()) {
    if (entry.path === "" && !isFile) continue;
    if (!isRecursive && entry.path.includes("/")) continue;
    const { type, mode, mtimeMs, length, target, linkTo } = entry;
    const path = entry.path === "" ? tree.path.slice(tree.path.lastIndexOf("/") + 1) : entry.path;
    const behind =
      target === undefined
        ? linkTo === undefined
          ? ""
          : ` = ${printable(linkTo)}`
        : ` -> ${printable(target)}`;
    yield {
      json: {
        path,
        type,
        mode,
        mtimeMs,
        length,
        ...(target === undefined ? {} : { target }),
        ...(linkTo === undefined ? {} : { linkTo }),
      },
      cells: [
        modeText(entry),
        type !== "file" ? "-" : isTerminal ? formatBytes(length) : String(length),
        isTerminal ? formatTime(mtimeMs) : isoTime(mtimeMs),
        `${printable(path)}${type === "directory" ? "/" : ""}${behind}`,
      ],
    };
  }
}

/** "drwxr-xr-x", as ls has it. */
function modeText({ type, mode }: Pick<TreeEntryInfo, "type" | "mode">): string {
  const kind = { file: "-", directory: "d", symlink: "l" }[type];
  if (type === "symlink") return "lrwxrwxrwx";
  const bits = Array.from("rwxrwxrwx", (letter, index) => ((mode >> (8 - index)) & 1 ? letter : "-"));
  for (const [bit, index, letter] of [
    [0o4000, 2, "s"],
    [0o2000, 5, "s"],
    [0o1000, 8, "t"],
  ] as const) {
    if ((mode & bit) !== 0) bits[index] = bits[index] === "x" ? letter : letter.toUpperCase();
  }
  return kind + bits.join("");
}
