/** pfs up and pfs join: this machine as a hub, or as a node of one. Both serve until a signal ends them. */
import { Command } from "commander";
import type { PacketfsError } from "../../packets/errors.ts";
import type { Address } from "../../nodes/wire/trust/address.ts";
import type { GlobalOptions } from "./options.ts";
import { example } from "./help.ts";
import { option, parseEndpoint, storeDirectory, wholeNumber } from "./options.ts";
import { printable } from "./format.ts";
import { WORKERS_MAX } from "../../runtime/limits.ts";
import { onRun } from "./context.ts";
import type { Host, Context } from "./context.ts";

interface NetworkOptions extends GlobalOptions {
  readonly listen?: string;
  readonly label?: string;
  readonly workers?: number;
}

const LOOPBACK = "127.0.0.1";
const HUB_LISTENS: Address = { host: LOOPBACK, port: 7400 };

export function upCommand(host: Host): Command {
  const command = new Command("up")
    .summary("make this machine a hub")
    .description(
      "Make this machine a hub, until Ctrl-C or SIGTERM. Prints two tokens: the client token lets someone use the hub (--at), the join token lets a machine become a node of it. Keep both as you keep passwords.",
    )
    .addOption(
      option(
        "--listen <HOST:PORT>",
        "where clients and nodes reach it (default: 127.0.0.1:7400)",
        "PACKETFS_LISTEN",
      ),
    )
    .addHelpText("after", example("pfs up --listen 0.0.0.0:7400 --label office"));
  return onRun<NetworkOptions>(addOptions(command), host, up);
}

export function joinCommand(host: Host): Command {
  const command = new Command("join")
    .summary("make this machine a node of a hub")
    .description(
      "Make this machine a node of a hub, until Ctrl-C or SIGTERM: it lends its cores and its store.",
    )
    .argument("<TOKEN>", 'the join token that "pfs up" printed')
    .addOption(
      option("--listen <HOST:PORT>", "where other nodes reach it (default: nowhere)", "PACKETFS_LISTEN"),
    )
    .addHelpText("after", example('pfs join "$(cat join.token)" --workers 8'));
  return onRun<NetworkOptions>(addOptions(command), host, join);
}

function addOptions(command: Command): Command {
  return command
    .addOption(option("--label <LABEL>", "its name for people (default: the host's)", "PACKETFS_LABEL"))
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
  const { address, clientToken, joinToken } = hub;
  if (output.json) {
    await output.object({ event: "listening", address, clientToken, joinToken });
  } else {
    await output.line(`client token  ${clientToken}`);
    await output.line(`join token    ${joinToken}`);
    output.talk(`listening on ${address}; Ctrl-C ends it`);
    if (listen.host === LOOPBACK)
      output.talk("only this machine reaches it; --listen 0.0.0.0:7400 opens it to others");
  }
  throwIfFailed(await hub.closed);
}

async function join(
  context: Context,
  [token = ""]: readonly string[],
  options: NetworkOptions,
): Promise<void> {
  const { output } = context;
  const listen = options.listen === undefined ? {} : { listen: parseEndpoint(options.listen, LOOPBACK) };
  const { joinHub } = await import("../../nodes/node.ts");
  await using node = await joinHub({ ...common(context, options), ...listen, token });
  if (output.json) await output.object({ event: "joined", label: node.label, id: node.id });
  else output.talk(`joined as ${printable(node.label)}; Ctrl-C ends it`);
  await node.closed;
}

/** What hubs and nodes are both told. */
function common(
  { output, signal }: Context,
  options: NetworkOptions,
): { store: string; label?: string; workers?: number; signal: AbortSignal; onEvent: (text: string) => void } {
  return {
    store: storeDirectory(options),
    ...(options.label === undefined ? {} : { label: options.label }),
    ...(options.workers === undefined ? {} : { workers: options.workers }),
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
