/**
 * Runs what was built with what V8 has compiled of it before: a process that starts compiles what it calls, which costs more
 * than what most of it does. Node's own cache of compiled code has of a file what is compiled when it is loaded, and that
 * is next to nothing: functions are compiled when they are called first. So what is kept here is written when they have been
 * called, by `keep`, and holds what that process needed: another can need other functions, and compiles these itself.
 *
 * It lies beside the code that it was made of, and nowhere else: who can write there could write the code. Where that is not
 * this user, who runs it compiles it. V8 takes it only for the same version of itself, with the same flags.
 *
 * The build copies this file as it is: it must not need what it is there for.
 */
"use strict";
const fs = require("node:fs");
const { Script } = require("node:vm");

const FOLDER = `${__dirname}/compiled`;
/** Before and after a module, as Node has it. */
const [BEFORE, AFTER] = ["(function (exports, require, module, __filename, __dirname) { ", "\n})"];
/** For all: processes that run as somebody else read it too. */
const READABLE_MODE = 0o644;

/** Scripts of this thread, by what they are kept as: those that V8 had to compile, and those of which it was given something. */
const made = new Map();
const given = new Map();

/**
 * What the built module of this name exports. Compiled code is kept for each `variant` by itself, for processes that begin
 * with the same file and need little of each other's functions.
 */
exports.load = (name, variant = name) => {
  const file = `${__dirname}/${name}.body.cjs`;
  // Node finds places in the sources for modules that it loads itself.
  if (process.sourceMapsEnabled) return require(file);
  const cachedData = exports.read(variant);
  const script = new Script(`${BEFORE}${fs.readFileSync(file, "latin1")}${AFTER}`, {
    filename: file,
    columnOffset: -BEFORE.length,
    cachedData,
  });
  (cachedData === undefined || script.cachedDataRejected ? made : given).set(variant, script);
  const module = { exports: {} };
  script.runInThisContext().call(module.exports, module.exports, require, module, file, __dirname);
  return module.exports;
};

/**
 * Writes what V8 has compiled by now of what this thread loaded, unless something was kept already; with `more` what was
 * compiled in addition to that, too. Never throws.
 */
exports.keep = (more = false) => {
  for (const [variant, script] of more ? [...made, ...given] : made)
    exports.write(variant, script.createCachedData());
  made.clear();
};

/** What was kept as `variant`; undefined when nothing was. Whoever gives it to V8 asks whether it was taken. */
exports.read = (variant) => {
  try {
    return fs.readFileSync(pathOf(variant));
  } catch {
    return undefined;
  }
};

/** Whether nothing was kept as `variant` though this user could keep it. */
exports.isMissing = (variant) => {
  if (fs.existsSync(pathOf(variant))) return false;
  try {
    fs.accessSync(fs.existsSync(FOLDER) ? FOLDER : __dirname, fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
};

/** Keeps bytes, whole or not at all. Never throws: what cannot be kept is compiled again. */
exports.write = (variant, bytes) => {
  const path = pathOf(variant);
  const part = `${path}.${process.pid}`;
  try {
    fs.mkdirSync(FOLDER, { recursive: true });
    const descriptor = fs.openSync(part, "w", READABLE_MODE);
    try {
      fs.writeSync(descriptor, bytes);
      // V8 does not look whether what it is given is as it was written.
      fs.fsyncSync(descriptor);
    } finally {
      fs.closeSync(descriptor);
    }
    fs.renameSync(part, path);
  } catch {
    fs.rmSync(part, { force: true });
  }
};

function pathOf(variant) {
  return `${FOLDER}/${variant}-${process.version}-${process.arch}`;
}
