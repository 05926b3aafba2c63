/** What a command works with: where its words go, what ends it early, and the store or hub it was told to use. */
import { statSync } from "node:fs";
import type { Command, Option } from "commander";
import { fileError, SdkError, SdkErrorCode, UsageError } from "../errors.ts";
import type { PacketFS } from "../packetfs.ts";
import type { ExitCode } from "./exit-codes.ts";
import { cacheBytes, storeDirectory } from "./options.ts";
import type { GlobalOptions } from "./options.ts";
import type { Output } from "./output.ts";
import { tokenSource } from "./secrets.ts";
import type { TokenSource } from "./secrets.ts";

/** The same for the whole process. */
export interface Host {
  readonly output: Output;
  /** Aborted by the first signal, or when whoever read stdout has gone. */
  readonly signal: AbortSignal;
  /** The command did what it was told, and its exit status says what it found. */
  readonly finish: (exitCode: ExitCode) => void;
}

export interface Context extends Host {
  readonly options: GlobalOptions;
  /** The client token that says which hub to use, if one does, and what gave it. */
  readonly token: TokenSource | undefined;
  /** Rejects with the signal's reason: to race with what may hang at a pipe or a device, whatever the signal says. */
  readonly aborted: Promise<never>;
  /** The embedded store or the hub, opened once and closed when the command ends. */
  readonly open: (how?: OpenHow) => Promise<PacketFS>;
}

export interface OpenHow {
  /** The command makes the store if there is none. Default false. */
  readonly creates?: boolean;
  /** The command can talk to one node of a hub's network. Default false. */
  readonly reachesNodes?: boolean;
}

type Handler<Options> = (context: Context, operands: readonly string[], options: Options) => Promise<void>;

/** Options of every command that some have no use for. */
type Unused = "--at" | "--token-file" | "--node";

const unusedOptions = new WeakMap<Command, readonly Unused[]>();

/**
 * Makes `handler` what the command does. Operands are given as they were typed. Options that are `unused` are refused when they
 * are typed; a command without --at works in the store of this machine, whatever hub a variable names.
 */
export function onRun<Options extends object>(
  command: Command,
  host: Host,
  handler: Handler<Options>,
  unused: readonly Unused[] = [],
): Command {
  unusedOptions.set(command, unused);
  return command.action(async () => {
    const options = command.optsWithGlobals<Options & GlobalOptions>();
    const idle = command.parent!.options.find((each) => !isUsed(command, each) && isTyped(command, each));
    if (idle !== undefined) {
      throw new UsageError(
        `${command.name()} has no use for ${idle.long}; "pfs help ${command.name()}" says what it takes`,
      );
    }
    const token = unused.includes("--at") ? undefined : hubToken(command, options);
    let opened: PacketFS | undefined;
    const open = async (how: OpenHow = {}): Promise<PacketFS> => {
      if (token?.fromStdin === true && command.args.includes("-")) {
        throw new UsageError("stdin cannot be both the token and a file");
      }
      // A node that a variable names is one of the hub that another names.
      const typed = typedOptions(command);
      const isHere = token === undefined && typed.has("--store") && !typed.has("--node");
      opened ??= await openPacketFS(isHere ? withoutNode(options) : options, token, how, host);
      return opened;
    };
    checkOperands(command);
    try {
      const aborted = rejectedWhen(host.signal);
      await handler({ ...host, options, token, aborted, open }, command.args, options);
    } finally {
      host.output.status("");
      await opened?.close();
    }
  });
}

/** Whether the command does something with this option of every command. */
export function isUsed(command: Command, { long }: Option): boolean {
  return unusedOptions.get(command)?.some((each) => each === long) !== true;
}

function isTyped(command: Command, option: Option): boolean {
  return command.getOptionValueSourceWithGlobals(option.attributeName()) === "cli";
}

/** Which options of every command were typed, by their long names. */
function typedOptions(command: Command): ReadonlySet<string | undefined> {
  return new Set(command.parent!.options.filter((each) => isTyped(command, each)).map(({ long }) => long));
}

function withoutNode({ node: _node, ...rest }: GlobalOptions): GlobalOptions {
  return rest;
}

/** The token of the hub that the command is to use; undefined where it uses a store. What was typed goes before what variables say. */
function hubToken(command: Command, { at }: GlobalOptions): TokenSource | undefined {
  const typed = typedOptions(command);
  const origin = typed.has("--at") ? "--at" : "PACKETFS_AT";
  const token = tokenSource(command, { text: at, origin, isTyped: typed.has("--at") });
  if (token === undefined || !typed.has("--store")) return token;
  if (!typed.has(token.origin)) return undefined;
  throw new UsageError(`--store and ${token.origin} say two places; leave one out`);
}

/** An empty text names nothing: mostly it is a variable of a script that was not set. */
function checkOperands({ registeredArguments, args }: Command): void {
  for (const [index, text] of args.entries()) {
    const argument = registeredArguments[Math.min(index, registeredArguments.length - 1)];
    if (text !== "" || argument?.required !== true) continue;
    throw new UsageError(`${argument.name()} is empty; it takes ${argument.description}`);
  }
}

function rejectedWhen(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  // Most commands do not wait for it.
  promise.catch(() => undefined);
  return promise;
}

async function openPacketFS(
  options: GlobalOptions,
  token: TokenSource | undefined,
  how: OpenHow,
  host: Host,
): Promise<PacketFS> {
  const { signal, output } = host;
  signal.throwIfAborted();
  if (options.node !== undefined && how.reachesNodes !== true) {
    throw new UsageError("--node goes with put, get, cat and stat only");
  }
  if (token !== undefined) {
    const { connect } = await import("../remote.ts");
    let isLost = false;
    return connect(await token.read(signal), {
      signal,
      cache: { bytesMax: cacheBytes() },
      ...(options.node === undefined ? {} : { node: options.node }),
      ...(options.bulk === undefined ? {} : { bulk: options.bulk }),
      onConnection: (event) => {
        // Once for each loss, however often it is dialed.
        if (event.kind === "back") output.talk("the connection is there again; going on");
        else if (!isLost) {
          // How fast things went, and how long they would take, is so no more.
          output.status("");
          output.talk(`${event.error.message}; dialing again`);
        }
        isLost = event.kind === "lost";
      },
    });
  }
  if (options.node !== undefined)
    throw new UsageError("--node needs --at: the token of the hub it belongs to");
  const directory = storeDirectory(options);
  if (how.creates !== true) checkIsThere(directory);
  const { openLocal } = await import("../local.ts");
  const { cacheDirectory } = await import("../programs/result-cache.ts");
  const { describeLostWalls, describeWalls } = await import("../../runtime/sandbox/process/wall-states.ts");
  return openLocal(directory, {
    runsOnce: true,
    cache: cacheDirectory("descriptions"),
    onRepair: ({ text }) => output.talk(`store: ${text}`),
    onWalls: (walls) => {
      const lost = describeLostWalls(walls);
      if (lost === undefined) output.detail(describeWalls(walls));
      else output.talk(lost);
    },
  });
}

/** A mistyped directory is an error, not an empty store. */
function checkIsThere(directory: string): void {
  try {
    if (statSync(directory).isDirectory()) return;
  } catch (error) {
    const known = fileError(error, "read", directory);
    if (!(known instanceof SdkError) || known.code !== SdkErrorCode.fileNotFound) throw known;
    throw new SdkError(
      SdkErrorCode.fileNotFound,
      `there is no store at ${directory}; "pfs put" makes one`,
      { path: directory },
      { cause: error },
    );
  }
  throw new UsageError(`the store ${directory} is a file; --store takes a directory`);
}
