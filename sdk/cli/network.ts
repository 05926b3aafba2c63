/** pfs up and pfs join: this machine as a hub, or as a node of one. Both serve until a signal ends them. */
import { Command } from "commander";
import type { PacketfsError } from "../../packets/errors.ts";
import { formatAddress, isLoopback, isUnspecified, parseAddress } from "../../nodes/wire/trust/address.ts";
import type { Address } from "../../nodes/wire/trust/address.ts";
import { UsageError } from "../errors.ts";
import type { GlobalOptions, ValueOf } from "./options.ts";
import { example } from "./help.ts";
import { option, parseEndpoint, storeDirectory, wholeNumber } from "./options.ts";
import { printable } from "./format.ts";
import { TOKEN_NAME_CHARACTERS_MAX } from "../../nodes/limits.ts";
import { WORKERS_MAX } from "../../runtime/limits.ts";
import { onRun } from "./context.ts";
import type { Host, Context } from "./context.ts";
import type { WallState } from "../../runtime/sandbox/process/wall-states.ts";
import { tokenSource } from "./secrets.ts";
import type { TokenSource } from "./secrets.ts";

interface NetworkOptions extends GlobalOptions {
  readonly listen?: string;
  readonly advertise?: string;
  readonly label?: string;
  readonly workers?: number;
}

const LOOPBACK = "127.0.0.1";
const HUB_LISTENS: Address = { host: LOOPBACK, port: 7400 };

/** For an address that others are told. */
const REACHABLE: ValueOf<string> = {
  parse: (text) => {
    try {
      const address = parseAddress(text);
      return isUnspecified(address.host) ? undefined : formatAddress(address);
    } catch {
      return undefined;
    }
  },
  takes: "HOST:PORT as others dial it, such as hub.example.org:7400 or [2001:db8::7]:7400",
};

/** One word, which can be typed where a machine is named: --node, token revoke. */
const LABEL: ValueOf<string> = {
  parse: (text) =>
    text.length <= TOKEN_NAME_CHARACTERS_MAX && /^[\p{L}\p{N}][\p{L}\p{M}\p{N}._-]*$/u.test(text)
      ? text
      : undefined,
  takes: `up to ${TOKEN_NAME_CHARACTERS_MAX} letters, digits, dots, dashes and underscores, the first a letter or digit`,
};

export function upCommand(host: Host): Command {
  const command = new Command("up")
    .summary("make this machine a hub")
    .description(
      'Make this machine a hub, until Ctrl-C or SIGTERM. Prints two tokens: the client token lets someone use the hub (--at), the join token lets a machine become a node of it. Keep both as you keep passwords; "pfs token" makes others, one for each person and machine, that may do less and can be revoked.',
    )
    .addOption(
      option(
        "--listen <HOST:PORT>",
        "where clients and nodes reach it (default: 127.0.0.1:7400)",
        "PACKETFS_LISTEN",
      ),
    )
    .addHelpText("after", example("pfs up --listen 0.0.0.0:7400 --label office"));
  return onRun<NetworkOptions>(addOptions(command), host, up, ["--at", "--token-file", "--node"]);
}

export function joinCommand(host: Host): Command {
  const command = new Command("join")
    .summary("make this machine a node of a hub")
    .description(
      "Make this machine a node of a hub, until Ctrl-C or SIGTERM: it lends its cores and its store. The token is given as TOKEN, in the variable PACKETFS_JOIN, or in a file (--token-file); the last two keep it out of lists of processes.",
    )
    .argument(
      "[TOKEN]",
      'the join token that "pfs up" printed, with @HOST:PORT behind it when the hub has moved; - is stdin',
    )
    .addOption(
      option("--listen <HOST:PORT>", "where other nodes reach it (default: nowhere)", "PACKETFS_LISTEN"),
    )
    .addHelpText("after", example("pfs join --token-file join.token --workers 8"));
  return onRun<NetworkOptions>(
    addOptions(command),
    host,
    (context, [operand], options) => join(context, joinToken(command, operand), options),
    ["--at", "--node"],
  );
}

function joinToken(command: Command, operand: string | undefined): TokenSource {
  const text = operand ?? process.env["PACKETFS_JOIN"];
  const isTyped = operand !== undefined;
  const source = tokenSource(command, { text, origin: isTyped ? "TOKEN" : "PACKETFS_JOIN", isTyped });
  if (source !== undefined) return source;
  throw new UsageError(
    "a join token is missing: give it as TOKEN, in PACKETFS_JOIN, or with --token-file FILE",
  );
}

function addOptions(command: Command): Command {
  return command
    .addOption(
      option(
        "--advertise <HOST:PORT>",
        "the address that others are told to dial (default: follows from --listen)",
        "PACKETFS_ADVERTISE",
        REACHABLE,
      ),
    )
    .addOption(
      option("--label <LABEL>", "its name for people (default: the host's)", "PACKETFS_LABEL", LABEL),
    )
    .addOption(
      option(
        "--workers <N>",
        "programs that it runs at once (default: its cores)",
        "PACKETFS_WORKERS",
        wholeNumber(0, WORKERS_MAX),
      ),
    );
}

async function up(context: Context, _operands: readonly string[], options: NetworkOptions): Promise<void> {
  const { output } = context;
  const listen = options.listen === undefined ? HUB_LISTENS : parseEndpoint(options.listen, LOOPBACK);
  const { startHub } = await import("../../nodes/hub/hub.ts");
  await using hub = await startHub({ ...common(context, options), listen });
  const { address, advertised, clientToken, joinToken } = hub;
  if (output.json) {
    await output.object({ event: "listening", address, advertised, clientToken, joinToken });
  } else {
    await output.line(`client token  ${clientToken}`);
    await output.line(`join token    ${joinToken}`);
    const told = advertised === address ? "" : `, which others reach at ${advertised}`;
    output.talk(`listening on ${address}${told}; Ctrl-C ends it`);
    if (isLoopback(listen.host) && options.advertise === undefined) {
      const { port } = parseAddress(address);
      output.talk(`only this machine reaches it; --listen 0.0.0.0:${port} opens it to others`);
    }
  }
  await Promise.race([hub.closed, hub.walls().then((walls) => tellWalls(context, walls))]);
  throwIfFailed(await hub.closed);
}

async function join(context: Context, source: TokenSource, options: NetworkOptions): Promise<void> {
  const { output } = context;
  const listen = options.listen === undefined ? {} : { listen: parseEndpoint(options.listen, LOOPBACK) };
  const token = await source.read(context.signal);
  const [{ joinHub }, { parseToken }] = await Promise.all([
    import("../../nodes/node.ts"),
    import("../../nodes/wire/trust/token.ts"),
  ]);
  // It takes as long as nobody answers there.
  if (!output.json) output.talk(`joining the hub at ${parseToken(token, "join").address}; Ctrl-C ends it`);
  await using node = await joinHub({ ...common(context, options), ...listen, token });
  if (output.json) await output.object({ event: "joined", label: node.label, id: node.id });
  else output.talk(`joined as ${printable(node.label)}`);
  await tellWalls(context, node.walls);
  await node.closed;
}

/** A machine that protects itself less than it might is not to do so without a word. */
async function tellWalls({ output, signal }: Context, walls: readonly WallState[]): Promise<void> {
  // Who ends it while its first executor process starts has it know of none.
  if (signal.aborted) return;
  if (output.json) return output.object({ event: "walls", walls });
  const { describeWalls } = await import("../../runtime/sandbox/process/wall-states.ts");
  output.talk(describeWalls(walls));
}

/** What hubs and nodes are both told. */
function common(
  { output, signal }: Context,
  options: NetworkOptions,
): {
  store: string;
  advertise?: string;
  label?: string;
  workers?: number;
  allowsClear: boolean;
  signal: AbortSignal;
  onEvent: (text: string) => void;
} {
  return {
    store: storeDirectory(options),
    ...(options.advertise === undefined ? {} : { advertise: options.advertise }),
    ...(options.label === undefined ? {} : { label: options.label }),
    ...(options.workers === undefined ? {} : { workers: options.workers }),
    allowsClear: options.bulk === "clear",
    signal,
    onEvent: (text) => {
      if (output.json) void output.object({ event: "note", text });
      else output.talk(printable(text));
    },
  };
}

/** Ending was not asked for. */
function throwIfFailed(error: PacketfsError | undefined): void {
  if (error !== undefined) throw error;
}
