/**
 * A hub's grants for its nodes. Which packets of a loaded program a client may send where by itself is decided here, anew with each
 * grant that it asks for: among the nodes on which the hub's own scheduler would run it, as far as they can be dialed.
 */
import { MessageType, Priority } from "../../packets/envelope.ts";
import type { BarInfo, Executor, ProgramKind } from "../../runtime/contracts/executor.ts";
import type { LoadableProgram } from "../../runtime/job/jobs.ts";
import { signGrant } from "../grants/grant.ts";
import {
  GRANTS_PER_ANSWER_MAX,
  GRANT_INPUT_BYTES_MAX,
  GRANT_MS,
  GRANT_PACKETS_MAX,
  GRANT_SKEW_MS,
  GRANT_UNANSWERED_MAX,
  GRANT_UNANSWERED_MIN,
} from "../limits.ts";
import type { DirectNode, GrantedMeta, WithdrawMeta } from "../messages.ts";
import type { GrantIssuer } from "../serve/job-service.ts";
import type { Link } from "../wire/link.ts";
import { keysToJson } from "../wire/trust/keys.ts";
import type { Identity } from "../wire/trust/keys.ts";
import type { Members } from "./members.ts";

export interface HubGrantsOptions {
  readonly identity: Identity;
  readonly members: Members;
  /** From which kinds of program the executor with this id is barred. */
  readonly barsOf: (executor: string) => readonly BarInfo[];
  /** Milliseconds since 1970; the system's clock by default. */
  readonly now?: () => number;
}

export class HubGrants implements GrantIssuer {
  readonly #options: HubGrantsOptions;
  readonly #now: () => number;
  /** By job: the executors that it has grants for, and until when. */
  readonly #granted = new Map<string, Map<Executor, number>>();

  constructor(options: HubGrantsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  issue({ client, job, program }: Parameters<GrantIssuer["issue"]>[0]): GrantedMeta {
    const nodes: DirectNode[] = [];
    let others = 0;
    const granted = this.#granted.get(job) ?? new Map<Executor, number>();
    const now = this.#now();
    // Nodes come and go as long as a program is loaded.
    for (const [executor, until] of granted) if (until + GRANT_SKEW_MS <= now) granted.delete(executor);
    for (const executor of this.#able(program)) {
      const weight = executor.capacity[program.kind]!;
      const node = nodes.length < GRANTS_PER_ANSWER_MAX ? this.#reachable(executor) : undefined;
      if (node === undefined) {
        others += weight;
        continue;
      }
      const { link, name, address } = node;
      granted.set(executor, now + GRANT_MS);
      this.#granted.set(job, granted);
      const grant = signGrant(
        {
          client,
          node: link.peer.id,
          executor: name,
          job,
          program: "inline" in program.source ? program.source.inline : program.source,
          isInline: "inline" in program.source,
          unanswered: this.#shareOf(executor, now),
          packets: GRANT_PACKETS_MAX,
          inputBytes: GRANT_INPUT_BYTES_MAX,
          cpuMs: weight * GRANT_MS,
          issuedAt: now,
          expiresAt: now + GRANT_MS,
        },
        this.#options.identity,
      );
      nodes.push({
        id: link.peer.id,
        label: link.peer.label,
        address,
        ...keysToJson(link.peer),
        weight,
        grant,
      });
    }
    return { nodes, others, packetMs: program.packetMs };
  }

  /** The nodes are told at once; one that is away goes by what it was shown until that expires. */
  withdraw(job: string): void {
    const granted = this.#granted.get(job);
    this.#granted.delete(job);
    const links = new Set<Link>();
    for (const executor of granted?.keys() ?? []) {
      const link = this.#options.members.lenderOf(executor)?.link;
      if (link !== undefined) links.add(link);
    }
    const meta: WithdrawMeta = { op: "withdraw", job };
    for (const link of links) link.notify({ type: MessageType.GRANT, priority: Priority.control, meta });
  }

  /** Those that packets of the program would be placed on. */
  #able({ kind, edition }: LoadableProgram): Executor[] {
    return this.#options.members.executors
      .list()
      .filter(
        (executor) =>
          edition === executor.edition &&
          executor.capacity[kind] !== undefined &&
          !this.#isBarred(executor, kind),
      );
  }

  #isBarred({ id }: Executor, kind: ProgramKind): boolean {
    return this.#options.barsOf(id).some((bar) => bar.kind === kind);
  }

  /** Where clients dial the executor's node; undefined where they cannot, or should not. */
  #reachable(
    executor: Executor,
  ): { readonly link: Link; readonly name: string; readonly address: string } | undefined {
    const lender = this.#options.members.lenderOf(executor);
    const address = lender?.link.peer.address;
    if (lender === undefined || address === undefined || executor.isSuspect === true) return undefined;
    return { ...lender, address };
  }

  /** Packets that one program may have unanswered on an executor: all that have grants for it share what it takes. */
  #shareOf(executor: Executor, now: number): number {
    let programs = 0;
    for (const granted of this.#granted.values()) if ((granted.get(executor) ?? 0) > now) programs++;
    return Math.max(GRANT_UNANSWERED_MIN, Math.floor(GRANT_UNANSWERED_MAX / Math.max(1, programs)));
  }
}
