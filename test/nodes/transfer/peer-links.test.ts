/** A node's sessions with other nodes follow its allow list. */
import { expect, test } from "vitest";
import { PeerLinks } from "../../../nodes/transfer/peer-links.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { until } from "../../suites/until.ts";
import { list, openNetwork } from "../wire/network.ts";
import type { Network } from "../wire/network.ts";

/** Two nodes, of which one dials the other, as the hub has told both. */
async function twoNodes(): Promise<{
  readonly other: Network;
  readonly allowList: AllowList;
  readonly links: PeerLinks;
  readonly begun: Link[];
}> {
  const identity = Identity.create();
  const other = await openNetwork({ role: "node" });
  list(other.allowList, identity, "node");
  const allowList = new AllowList();
  const { signingKey, curveKey } = other.hub;
  allowList.add({ signingKey, curveKey, role: "node", label: "other", address: other.address });
  const begun: Link[] = [];
  const links = new PeerLinks({ identity, label: "node", allowList, onLink: (link) => begun.push(link) });
  return { other, allowList, links, begun };
}

test("a node that is revoked loses the sessions that others dialed to it", async () => {
  const { other, allowList, links } = await twoNodes();
  expect((await links.chunks()).map(({ id }) => id)).toEqual([other.hub.id]);
  expect(other.links).toHaveLength(1);
  allowList.remove(other.hub.id);
  expect(await links.chunks()).toEqual([]);
  expect(await other.links[0]!.closed).toMatchObject({ code: "PFS_NODE_LOST" });
  await links[Symbol.asyncDispose]();
  await other.close();
});

test("a node that is revoked while it is dialed is not spoken with", async () => {
  const { other, allowList, links, begun } = await twoNodes();
  const asked = links.chunks();
  allowList.remove(other.hub.id);
  expect(await asked).toEqual([]);
  expect(begun).toEqual([]);
  await until(() => other.links.length === 1);
  await other.links[0]!.closed;
  await links[Symbol.asyncDispose]();
  await other.close();
});

test("a node that ends waits for no dial", async () => {
  const { other, links, begun } = await twoNodes();
  const asked = links.chunks();
  await links[Symbol.asyncDispose]();
  expect(await asked).toEqual([]);
  expect(begun).toEqual([]);
  await other.close();
});
