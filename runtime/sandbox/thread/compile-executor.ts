/**
 * Has V8 compile what executor processes are made of, and keeps it for them, who can write nothing. It is behind no walls, for
 * it runs nothing but our own code; and with the flags of executors, for V8 takes nothing that was compiled with others.
 */
import { compiledCode } from "../../built.ts";

const { compile } = compiledCode().load("executor-main") as { readonly compile: () => Promise<void> };
compile().then(
  () => process.exit(0),
  // Executors start without it.
  () => process.exit(1),
);
