// Checks Kubernetes objects, a JSON array on standard input, against the schemas of Kubernetes and of
// the custom resources, and prints what is wrong, a line each.
//
// Twice: the packages' validators know values (types, ranges, patterns) but let unknown keys pass, and
// the compiler knows every key (an object literal may have no other than its type) but not the values.
// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import ts from "typescript";

const PACKAGES = {
  "cert-manager.io": "@kubernetes-models/cert-manager",
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

const objects = JSON.parse(readFileSync(0, "utf8"));
const problems = [];
const lines = [];
for (const [index, object] of objects.entries()) {
  const group = object.apiVersion.split("/")[0];
  const module = `${PACKAGES[group] ?? "kubernetes-models"}/${object.apiVersion}`;
  const name = `${object.kind}/${object.metadata?.name}`;
  const type = (await import(module))[object.kind];
  try {
    new type(object).validate();
  } catch (error) {
    problems.push(`${name}: ${error.message}`);
  }
  lines.push(`import { I${object.kind} as Type${index} } from "${module}";`);
  lines.push(`export const object${index}: Type${index} = /* ${name} */ ${JSON.stringify(object)};`);
}

const file = new URL("objects.ts", import.meta.url).pathname;
const options = {
  strict: true, noEmit: true, skipLibCheck: true, module: ts.ModuleKind.Node16,
  moduleResolution: ts.ModuleResolutionKind.Node16, target: ts.ScriptTarget.ES2022, types: [],
};
const host = ts.createCompilerHost(options);
const read = host.getSourceFile.bind(host);
const text = lines.join("\n");
host.getSourceFile = (path, target, ...rest) =>
  path === file ? ts.createSourceFile(path, text, target) : read(path, target, ...rest);
const exists = host.fileExists.bind(host);
host.fileExists = (path) => path === file || exists(path);
for (const diagnostic of ts.getPreEmitDiagnostics(ts.createProgram([file], options, host))) {
  const line = diagnostic.file?.getLineAndCharacterOfPosition(diagnostic.start).line ?? 0;
  const where = diagnostic.file?.fileName === file ? objects[line >> 1] : null;
  problems.push(`${where?.kind}/${where?.metadata?.name}: ` +
                ts.flattenDiagnosticMessageText(diagnostic.messageText, " "));
}
for (const problem of problems) console.log(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
