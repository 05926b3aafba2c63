import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress, isLoopback, parseAddress } from "../../../nodes/wire/trust/address.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { formatToken, parseToken } from "../../../nodes/wire/trust/token.ts";
import type { Token } from "../../../nodes/wire/trust/token.ts";
import { hasCode } from "../../../packets/errors.ts";

const hub = Identity.create();
const bearer = Identity.create();
const token: Token = {
  kind: "client",
  curveKey: hub.curveKey,
  signingKey: hub.signingKey,
  secret: bearer.exportSecret(),
  address: "hub.example.org:7070",
};
const line = formatToken(token);

/** The reason and the sentence of the error that reading gives. */
function refusal(text: string, kind: "client" | "join" = "client"): { reason: unknown; message: string } {
  try {
    parseToken(text, kind);
  } catch (error) {
    if (!hasCode(error, "PFS_TOKEN_INVALID")) throw error;
    return { reason: error.data["reason"], message: error.message };
  }
  throw new Error("the token was accepted");
}

test("says the same when it is read", () => {
  for (const kind of ["client", "join"] as const) {
    for (const address of ["h:1", "10.0.0.1:65535", "[::1]:7000", `${"a".repeat(240)}:7000`]) {
      const made = formatToken({ ...token, kind, address });
      expect(made).toMatch(new RegExp(`^pfs1\\.${kind}\\.[A-Za-z0-9_-]+$`));
      const read = parseToken(`  ${made}\n`, kind);
      expect({ ...read, curveKey: [...read.curveKey], signingKey: [...read.signingKey] }).toEqual({
        kind,
        curveKey: [...hub.curveKey],
        signingKey: [...hub.signingKey],
        secret: read.secret,
        address,
      });
      expect(Identity.fromSecret(read.secret).id).toBe(bearer.id);
    }
  }
});

test("only the machine itself reaches its loopback", () => {
  for (const host of ["127.0.0.1", "127.8.9.1", "localhost", "::1", "0:0::1", "::ffff:127.0.0.1"])
    expect([host, isLoopback(host)]).toEqual([host, true]);
  for (const host of [
    "0.0.0.0",
    "::",
    "10.0.0.1",
    "::2",
    "::ffff:10.0.0.1",
    "127.example.org",
    "2001:db8::1",
  ])
    expect([host, isLoopback(host)]).toEqual([host, false]);
});

test("of the wrong kind says which one is needed", () => {
  expect(refusal(line, "join")).toEqual({
    reason: "kind",
    message: "this is a client token, but a join token is needed here",
  });
  expect(refusal(line.replace("client", "admin")).reason).toBe("kind");
  // What a token says about itself is part of what its check protects.
  expect(refusal(line.replace("client", "join"), "join").reason).toBe("mistyped");
});

test("cut off anywhere is refused", () => {
  for (let length = 0; length < line.length; length++) {
    expect(refusal(line.slice(0, length)).reason).toMatch(/format|truncated|mistyped/);
  }
  expect(refusal(line.slice(0, 60)).message).toBe("the token is cut off; copy the whole line");
});

test("with any character changed, added or missing is refused, without showing the secret", () => {
  const start = "pfs1.client.".length;
  for (let at = start; at < line.length; at++) {
    const other = line[at] === "A" ? "B" : "A";
    for (const text of [
      line.slice(0, at) + other + line.slice(at + 1),
      line.slice(0, at) + other + line.slice(at),
      line.slice(0, at) + line.slice(at + 1),
    ]) {
      const { reason, message } = refusal(text);
      expect(reason).toMatch(/mistyped|truncated/);
      expect(message).not.toContain(line.slice(40, 60));
    }
  }
});

test("that is no token at all is refused", () => {
  fc.assert(fc.property(fc.string(), (text) => void refusal(text)));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      refusal(`pfs1.client.${Buffer.from(bytes).toString("base64url")}`);
    }),
  );
});

test("addresses are HOST:PORT", () => {
  for (const text of ["localhost:1", "a-b.c:80", "1.2.3.4:65535", "[fe80::1]:7000"]) {
    expect(formatAddress(parseAddress(text))).toBe(text);
  }
  const wrong = [
    "",
    "h",
    "h:",
    ":1",
    "h:0",
    "h:65536",
    "h:1x",
    "a b:1",
    "::1:7",
    "[h]:1",
    "[::1]",
    "h:1:2",
    "u@h:1",
  ];
  for (const text of [...wrong, `${"h".repeat(300)}:1`]) {
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: "PFS_ADDRESS_INVALID" }));
  }
  expect(() => formatToken({ ...token, address: "nowhere" })).toThrow("HOST:PORT");
});
