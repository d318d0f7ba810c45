// Compiles SealcastLedger.sol into SealcastLedger.json: {abi, bytecode: {object}, deployedBytecode: {object,
// immutableReferences}}. The references say where the deployed code has values that the constructor chose.
//
//   node compile.mjs           writes the artifact
//   node compile.mjs --check   exits with 1 if the committed artifact is not what the source compiles to

import { readFileSync, writeFileSync } from "node:fs";
import solc from "solc";

const SOURCE = "SealcastLedger.sol";
const NAME = "SealcastLedger";
const ARTIFACT = "SealcastLedger.json";
const MAX_DEPLOYED_BYTES = 24_576; // EIP-170

const here = (file) => new URL(file, import.meta.url);

function fail(message) {
  console.error(`contracts: ${message}`);
  process.exit(1);
}

function compile() {
  const input = {
    language: "Solidity",
    sources: { [SOURCE]: { content: readFileSync(here(SOURCE), "utf8") } },
    settings: {
      evmVersion: "osaka",
      viaIR: true,
      optimizer: { enabled: true, runs: 200 },
      // No hash of the sources in the code: the same source gives the same bytes on every machine.
      metadata: { bytecodeHash: "none", appendCBOR: false },
      outputSelection: { [SOURCE]: { [NAME]: ["abi", "evm.bytecode.object", "evm.deployedBytecode"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const complaints = output.errors ?? [];
  if (complaints.length > 0) fail(complaints.map((c) => c.formattedMessage).join("\n"));

  const { abi, evm } = output.contracts[SOURCE][NAME];
  const { object, immutableReferences } = evm.deployedBytecode;
  const deployed = object.length / 2;
  if (deployed > MAX_DEPLOYED_BYTES) fail(`${deployed} bytes of code, the limit is ${MAX_DEPLOYED_BYTES} (EIP-170)`);
  const artifact = {
    abi,
    bytecode: { object: `0x${evm.bytecode.object}` },
    deployedBytecode: { object: `0x${object}`, immutableReferences },
  };
  return { deployed, text: `${JSON.stringify(artifact, null, 2)}\n` };
}

const mode = process.argv[2];
if (process.argv.length > 3 || (mode !== undefined && mode !== "--check")) {
  console.error("usage: node compile.mjs [--check]");
  process.exit(2);
}
const { deployed, text } = compile();
if (mode === "--check") {
  let committed = "";
  try {
    committed = readFileSync(here(ARTIFACT), "utf8");
  } catch {
    fail(`${ARTIFACT} is missing: run "node compile.mjs" and commit it`);
  }
  if (committed !== text) fail(`${ARTIFACT} is not what ${SOURCE} compiles to: run "node compile.mjs" and commit it`);
} else {
  writeFileSync(here(ARTIFACT), text);
}
console.error(`contracts: ${ARTIFACT} is up to date (${solc.version()}, ${deployed} bytes of code)`);
