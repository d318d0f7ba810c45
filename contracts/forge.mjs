// Runs the contract's forge tests on the committed artifact.
//
//   node forge.mjs test                     all tests, and whether each refusal has one and gas.md is true
//   node forge.mjs test [forge's options]   some tests, such as those of --match-contract Groups
//   node forge.mjs gas                      measures, and writes gas.md

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const NAME = "SealcastLedger";
const TABLE = "gas.md";
const MEASURED = "../target/forge/snapshots/Gas.json";
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

function forge(options) {
  const { status, error } = spawnSync(program(), ["test", ...options], { cwd: fileURLToPath(here("./")), stdio: "inherit" });
  if (error) fail(`forge does not start: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

/** What the last run of GasTest measured, as text. */
function gasTable() {
  const measured = Object.entries(JSON.parse(readFileSync(here(MEASURED), "utf8")));
  const rows = measured.map(([what, gas]) => `| ${what} | ${Number(gas).toLocaleString("en")} |`);
  const head = "What each kind of entry costs as a transaction of its own. Written by `npm run gas`, checked by `npm test`.";
  return `# Gas\n\n${head}\n\n| entry | gas |\n| --- | ---: |\n${rows.join("\n")}\n`;
}

function requireTrueGasTable() {
  const table = gasTable();
  const committed = existsSync(here(TABLE)) ? readFileSync(here(TABLE), "utf8") : "";
  if (committed === table) return console.error(`contracts: ${TABLE} is up to date`);
  const [now, before] = [table, committed].map((text) => text.split("\n"));
  for (const line of before.filter((line) => !now.includes(line))) console.error(`- ${line}`);
  for (const line of now.filter((line) => !before.includes(line))) console.error(`+ ${line}`);
  fail(`the gas of entries is not what ${TABLE} says: if it is meant to be so, run "npm run gas" and commit it`);
}

const [mode, ...options] = process.argv.slice(2);
if ((mode !== "test" && mode !== "gas") || (mode === "gas" && options.length > 0)) {
  console.error("usage: node forge.mjs test [forge's options] | gas");
  process.exit(2);
}
writeInterface();
rmSync(here(MEASURED), { force: true });
if (mode === "gas") {
  forge(["--match-contract", "^GasTest$"]);
  writeFileSync(here(TABLE), gasTable());
} else {
  requireEveryErrorTested();
  forge(options);
  // Options may leave out what measures.
  if (options.length === 0) requireTrueGasTable();
}
