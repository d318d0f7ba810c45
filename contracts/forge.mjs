// Runs the contract's forge tests on the committed artifact.
//
//   node forge.mjs test [forge's options]   all tests, and whether each refusal has one and the gas table is true
//   node forge.mjs gas                      writes the gas table anew, snapshots/Gas.json

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const NAME = "SealcastLedger";
const here = (path) => new URL(path, import.meta.url);
const { abi } = JSON.parse(readFileSync(here(`${NAME}.json`), "utf8"));

function fail(message) {
  console.error(`contracts: ${message}`);
  process.exit(1);
}

// ------------------------------------------------------------------------------------------------ the tests' interface

/** `tuple[]` of the ABI as Solidity names it. */
const typeOf = ({ type, internalType }) =>
  type.startsWith("tuple") ? internalType.replace(`struct ${NAME}.`, "") : type;
const isReference = ({ type }) => /^(bytes|string|tuple)|\]$/.test(type) && !/^bytes\d+$/.test(type);
const list = (fields, of) => fields.map(of).join(", ");
const inMemory = (field) => `${typeOf(field)}${isReference(field) ? " memory" : ""} ${field.name}`.trim();
const ofEvent = (field) => `${typeOf(field)}${field.indexed ? " indexed" : ""} ${field.name}`;

function structs(fields, found = new Map()) {
  for (const field of fields.filter(({ components }) => components)) {
    structs(field.components, found);
    const members = field.components.map((member) => `        ${typeOf(member)} ${member.name};`).join("\n");
    const name = typeOf(field).replace(/\[.*/, "");
    found.set(name, `    struct ${name} {\n${members}\n    }`);
  }
  return found;
}

function declaration({ type, name, inputs, outputs, stateMutability }) {
  if (type === "error") return `    error ${name}(${list(inputs, ofEvent)});`;
  if (type === "event") return `    event ${name}(${list(inputs, ofEvent)});`;
  const mutability = stateMutability === "nonpayable" ? "" : ` ${stateMutability}`;
  const returns = outputs.length === 0 ? "" : ` returns (${list(outputs, inMemory)})`;
  return `    function ${name}(${list(inputs, inMemory)}) external${mutability}${returns};`;
}

/** The contract's ABI as an interface: its errors' selectors come from here, and the contract is not compiled again. */
function writeInterface() {
  const items = abi.filter(({ type }) => type !== "constructor");
  const declared = structs(items.flatMap(({ inputs, outputs }) => [...inputs, ...(outputs ?? [])]));
  const lines = [...declared.values(), ...items.map(declaration)].join("\n");
  mkdirSync(here("test/generated/"), { recursive: true });
  const head = `// SPDX-License-Identifier: Apache-2.0 OR MIT\n// Made by forge.mjs from ${NAME}.json.\npragma solidity 0.8.37;\n`;
  writeFileSync(here(`test/generated/${NAME}.sol`), `${head}\ninterface ${NAME} {\n${lines}\n}\n`);
}

// ------------------------------------------------------------------------------------------------------------- checks

/** A test names the error that it provokes by its selector, and fails if the contract says anything else. */
function requireEveryErrorTested() {
  const tests = readdirSync(here("test/")).filter((file) => file.endsWith(".t.sol"));
  const text = tests.map((file) => readFileSync(here(`test/${file}`), "utf8").replace(/\/\/.*/g, "")).join("\n");
  const errors = abi.filter(({ type }) => type === "error").map(({ name }) => name);
  const missing = errors.filter((name) => !new RegExp(`\\b${NAME}\\.${name}\\.selector\\b`).test(text));
  if (missing.length > 0) fail(`no test provokes ${missing.join(", ")}: each error needs one in test/*.t.sol`);
  console.error(`contracts: each of ${errors.length} errors has a test`);
}

/** The program itself: the script that the package starts it by loses its exit code. */
function program() {
  const machine = { x64: "amd64", arm64: "arm64" }[process.arch];
  const os = { linux: "linux", darwin: "darwin" }[process.platform];
  const file = fileURLToPath(here(`node_modules/@foundry-rs/forge-${os}-${machine}/bin/forge`));
  if (!existsSync(file)) fail(`forge is not here for ${process.platform} ${process.arch}: run "npm ci" in contracts/`);
  return file;
}

function forge(options, environment = {}) {
  const { status, error } = spawnSync(program(), ["test", ...options], {
    cwd: fileURLToPath(here("./")),
    env: { ...process.env, ...environment },
    stdio: "inherit",
  });
  if (error) fail(`forge does not start: ${error.message}`);
  return status ?? 1;
}

const [mode, ...options] = process.argv.slice(2);
if (mode !== "test" && mode !== "gas") {
  console.error("usage: node forge.mjs test [forge's options] | gas");
  process.exit(2);
}
writeInterface();
if (mode === "gas") process.exit(forge(["--match-contract", "^GasTest$"]));
requireEveryErrorTested();
process.exit(forge(options, { FORGE_SNAPSHOT_CHECK: "true" }));
