/** A hub with an executor of its own, for the tests of a file whose peers speak with it; gone after them. */
import { join } from "node:path";
import { afterAll } from "vitest";
import { HubServices } from "../../nodes/hub/hub-services.ts";
import { Members } from "../../nodes/hub/members.ts";
import { Usage, Usages } from "../../nodes/serve/usage.ts";
import { Identity } from "../../nodes/wire/trust/keys.ts";
import { AllowList } from "../../nodes/wire/trust/allow-list.ts";
import { PeerSource } from "../../nodes/transfer/peer-source.ts";
import { ExecutorList } from "../../runtime/job/candidates.ts";
import type { Jobs } from "../../runtime/job/jobs.ts";
import { Machine } from "../../runtime/machine.ts";
import { temporaryDirectory } from "../runtime/store/store-fixture.ts";

export interface Hub {
  readonly machine: Machine;
  readonly members: Members;
  readonly jobs: Jobs;
  readonly identity: Identity;
  readonly services: HubServices;
}

export async function openHub(): Promise<Hub> {
  const directory = await temporaryDirectory();
  const members = new Members(new ExecutorList());
  const machine = await Machine.open({
    directory: directory.path,
    id: "hub",
    label: "hub",
    workers: 1,
    source: (store, events) => new PeerSource({ store, events, peers: async () => members.chunks }),
  });
  const jobs = machine.openJobs(members.executors, (out) => members.removeParts(out));
  afterAll(async () => {
    await jobs.close();
    await machine.close();
    await directory[Symbol.asyncDispose]();
  });
  const usages = await Usages.open(join(directory.path, "usage.json"), new AllowList());
  const onFailure = (error: unknown): never => {
    throw error;
  };
  const identity = Identity.create();
  const services = new HubServices({ label: "hub", machine, members, jobs, usages, identity, onFailure });
  return { machine, members, jobs, identity, services };
}

/** Of a client that may have as much as it likes. */
export function unlimited(id: string): Usage {
  return new Usage({ id, role: "client", quota: () => undefined });
}
