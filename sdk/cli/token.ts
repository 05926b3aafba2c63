/** pfs token: who may use the hub whose store is here, beside the hub that runs or while it is down. */
import { Argument, Command } from "commander";
import type { HubTokens, TokenRecord, TokenRole } from "../../nodes/hub/tokens.ts";
import { JOBS_PER_KEY_MAX } from "../../nodes/limits.ts";
import type { AllowListEntry, Quota } from "../../nodes/wire/trust/allow-list.ts";
import { SdkError, SdkErrorCode, UsageError } from "../errors.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import { formatBytes, formatCount, formatTime, isoTime, plural, printable } from "./format.ts";
import { example } from "./help.ts";
import { option, SIZE, storeDirectory, wholeNumber } from "./options.ts";
import type { GlobalOptions, ValueOf } from "./options.ts";
import type { Column, ListItem, Output } from "./output.ts";

const ACTIONS = ["add", "ls", "revoke"] as const;
type Action = (typeof ACTIONS)[number];

const COLUMNS: readonly Column[] = [
  { title: "NAME", shrinks: true },
  { title: "ROLE" },
  { title: "EXPIRES (LOCAL)" },
  { title: "LIMITS", shrinks: true },
  { title: "JOINED BY", shrinks: true },
  { title: "ID", shrinks: "first" },
];

const ID_DIGITS_MIN = 8;
/** As many as lists of nodes show. */
const ID_DIGITS_SHOWN = 12;

const UNIT_MS: Readonly<Record<string, number>> = { s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };
/** Ten thousand years: beyond are no dates. */
const EXPIRY_MS_MAX = 10_000 * 365 * 864e5;

/** For options that take a while, in milliseconds. */
const WHILE: ValueOf<number> = {
  parse: (text) => {
    const match = /^([1-9][0-9]*)([smhdw])$/.exec(text);
    const milliseconds = match === null ? Number.NaN : Number(match[1]) * UNIT_MS[match[2]!]!;
    return milliseconds <= EXPIRY_MS_MAX ? milliseconds : undefined;
  },
  takes: "a while such as 30d, 12h or 45m",
};

const ROLES: readonly TokenRole[] = ["client", "reader", "submitter", "node"];
const ROLE: ValueOf<TokenRole> = {
  parse: (text) => ROLES.find((role) => role === text),
  takes: "client, reader, submitter or node",
};

interface TokenCommandOptions extends GlobalOptions {
  readonly role?: TokenRole;
  readonly name?: string;
  readonly expires?: number;
  readonly maxBytes?: number;
  readonly maxJobs?: number;
  readonly maxPackets?: number;
}

export function tokenCommand(host: Host): Command {
  const command = new Command("token")
    .summary("say who may use this machine's hub")
    .description(
      "Make, list and revoke the tokens of the hub in this machine's store, also while it runs. A client may do everything, a reader reads files, a submitter reads files, runs programs and replaces results of its own only, a node lends its cores and store. A token is shown once, when it is made. Whoever is revoked is out within a second, and so are machines that joined by that token; a machine can be revoked alone too. Each is named by its name or label or, where two are called so, by its id or 8 digits of it.",
    )
    .addArgument(new Argument("<ACTION>", ACTIONS.join(", ")).choices(ACTIONS))
    .argument("[NAME]", "the token to make or revoke")
    .addOption(option("--role <ROLE>", "add: client, reader, submitter or node", "PACKETFS_ROLE", ROLE))
    .addOption(
      option("--name <NAME>", "add: what it is called here, for one person or machine", "PACKETFS_NAME"),
    )
    .addOption(
      option(
        "--expires <WHILE>",
        "add: how long it is good, such as 30d (default: for ever)",
        "PACKETFS_EXPIRES",
        WHILE,
      ),
    )
    .addOption(
      option(
        "--max-bytes <SIZE>",
        "add: bytes that it may store, on each machine",
        "PACKETFS_MAX_BYTES",
        SIZE,
      ),
    )
    .addOption(
      option(
        "--max-jobs <N>",
        `add: jobs that it may have running (default: ${JOBS_PER_KEY_MAX})`,
        "PACKETFS_MAX_JOBS",
        wholeNumber(1),
      ),
    )
    .addOption(
      option(
        "--max-packets <N>",
        "add: packets that it may have unanswered; a job with more splits than that is refused",
        "PACKETFS_MAX_PACKETS",
        wholeNumber(1),
      ),
    )
    .addHelpText("after", example("pfs token add --role reader --name alice --expires 30d"));
  return onRun<TokenCommandOptions>(
    command,
    host,
    async (context, [action, operand], options) => {
      const { HubTokens } = await import("../../nodes/hub/tokens.ts");
      const tokens = new HubTokens(storeDirectory(options));
      switch (action as Action) {
        case "add":
          return add(context, tokens, oneName(command, operand), options);
        case "ls":
          if (operand !== undefined) throw new UsageError("pfs token ls takes no name: it lists all");
          return list(context, tokens);
        case "revoke":
          return revoke(context, tokens, oneName(command, operand));
      }
    },
    ["--at", "--token-file", "--node"],
  );
}

/** The one name, typed as an operand or in --name, or else what a variable says. */
function oneName(command: Command, operand: string | undefined): string | undefined {
  const { name } = command.opts<TokenCommandOptions>();
  const isTyped = command.getOptionValueSource("name") === "cli";
  if (operand !== undefined && isTyped && operand !== name) {
    throw new UsageError(
      `${printable(operand)} and --name ${printable(name!)} are two names; give each a command of its own`,
    );
  }
  return operand ?? name;
}

async function add(
  { output }: Context,
  tokens: HubTokens,
  name: string | undefined,
  options: TokenCommandOptions,
): Promise<void> {
  const { role, expires } = options;
  if (role === undefined)
    throw new UsageError("a token needs a role: --role client, reader, submitter or node");
  if (name === undefined)
    throw new UsageError("a token needs a name, to be listed and revoked by: --name NAME");
  checkLimits(role, options);
  const expiresAt = expires === undefined ? undefined : Date.now() + expires;
  const token = await tokens.add({ name, role, expiresAt, quota: quotaOf(options) });
  if (output.json) return output.object({ name, role, expiresAt, token });
  await output.line(token);
  const until = expiresAt === undefined ? "" : ` until ${formatTime(expiresAt)}, local time`;
  output.talk(`${printable(name)} is a ${role}${until}; the token is not shown again, and is a password`);
}

async function joinedNodes(tokens: HubTokens): Promise<readonly AllowListEntry[]> {
  const { readNodes } = await import("../../nodes/hub/access.ts");
  return await readNodes(tokens.directory);
}

/** Refuses a limit on what the role may not do anyway. */
function checkLimits(role: TokenRole, { maxBytes, maxJobs, maxPackets }: TokenCommandOptions): void {
  const stores = role === "client" || role === "submitter";
  const given = Object.entries({
    "--max-bytes": maxBytes,
    "--max-jobs": maxJobs,
    "--max-packets": maxPackets,
  });
  const idle = given.find(([, limit]) => limit !== undefined)?.[0];
  if (!stores && idle !== undefined)
    throw new UsageError(`${idle} is for clients and submitters: a ${role} may not do what it limits`);
}

function quotaOf({ maxBytes, maxJobs, maxPackets }: TokenCommandOptions): Quota | undefined {
  if (maxBytes === undefined && maxJobs === undefined && maxPackets === undefined) return undefined;
  return { storedBytes: maxBytes, jobs: maxJobs, packets: maxPackets };
}

async function list({ output }: Context, tokens: HubTokens): Promise<void> {
  const { tokens: records, revoked, damaged } = await tokens.read();
  const nodes = (await joinedNodes(tokens)).filter(({ id }) => !revoked.has(id));
  const items = records.flatMap((record) => [
    tokenItem(record, output),
    ...nodes
      .filter(({ joinedBy }) => joinedBy === record.id)
      .map(({ id, label }) => machineItem(id, label, record.name)),
  ]);
  await output.list(COLUMNS, items);
  for (const complaint of damaged) output.complain(`pfs: ${complaint}`);
}

function tokenItem(
  { name, role, id, createdAt, expiresAt, quota }: TokenRecord,
  { isTerminal }: Output,
): ListItem {
  const isOver = expiresAt !== undefined && expiresAt <= Date.now();
  const timeOf = isTerminal ? formatTime : isoTime;
  const expiry = expiresAt === undefined ? "never" : timeOf(expiresAt);
  return {
    json: { name, role, id, createdAt, expiresAt, quota },
    cells: [name, role, isOver ? "has expired" : expiry, limitsOf(quota), "-", id],
  };
}

function machineItem(id: string, label: string, token: string): ListItem {
  return {
    json: { name: label, role: "machine", id, token },
    cells: [printable(label), "machine", "-", "-", token, id],
  };
}

function limitsOf(quota: Quota | undefined): string {
  const limits = [
    quota?.storedBytes === undefined ? [] : [formatBytes(quota.storedBytes)],
    quota?.jobs === undefined ? [] : [plural(quota.jobs, "job")],
    quota?.packets === undefined ? [] : [`${formatCount(quota.packets)} packets`],
  ].flat();
  return limits.length === 0 ? "-" : limits.join(", ");
}

async function revoke({ output }: Context, tokens: HubTokens, name: string | undefined): Promise<void> {
  if (name === undefined) throw new UsageError("which token? pfs token revoke NAME");
  const { tokens: records } = await tokens.read();
  const machines = await joinedNodes(tokens);
  const meant = [
    ...records.filter((record) => record.name === name || isIdOf(record.id, name)),
    ...machines.filter(({ id, label }) => label === name || isIdOf(id, name)),
  ];
  const [first, second] = meant;
  if (first === undefined) {
    const message = `there is no token or machine called ${printable(name)}; "pfs token ls" lists those there are`;
    throw new SdkError(SdkErrorCode.notFound, message, { name });
  }
  if (second !== undefined) {
    const each = meant.map((one) => `${described(one)} with the id ${one.id.slice(0, ID_DIGITS_SHOWN)}`);
    throw new UsageError(`${printable(name)} may be ${each.join(" or ")}; say which by its id`);
  }
  if (isToken(first)) {
    const joined = machines.filter(({ joinedBy }) => joinedBy === first.id);
    await tokens.revoke(first.name);
    if (output.json)
      return output.object({ revoked: first.name, id: first.id, machines: joined.map(({ label }) => label) });
    const also =
      joined.length === 0
        ? ""
        : `, and so ${joined.length === 1 ? "is" : "are"} ${joined.map(described).join(", ")}`;
    return output.talk(`${described(first)} is revoked${also}`);
  }
  await tokens.revokeMachine(first.id);
  const through = records.find(({ id }) => id === first.joinedBy)?.name;
  if (output.json) return output.object({ revoked: first.label, id: first.id });
  const warning =
    through === undefined
      ? ""
      : `; it has the token ${through} still, so revoke that too if the machine is not to be trusted`;
  output.talk(`${described(first)} is revoked${warning}`);
}

function isToken(one: TokenRecord | AllowListEntry): one is TokenRecord {
  return "name" in one;
}

function described(one: TokenRecord | AllowListEntry): string {
  return isToken(one) ? `the token ${one.name} (a ${one.role})` : `machine ${printable(one.label)}`;
}

/** Whether a text is an id, or so much of its beginning that it is no other's by accident. */
function isIdOf(id: string, text: string): boolean {
  return text.length >= ID_DIGITS_MIN && id.startsWith(text);
}
