// The formula language of explain.neurons.formula: the same grammar, the same messages. Columns count code points.
"use strict";
const SPACES = new Set("\t\n\v\f\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
  + "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000");
const RESERVED = new Set(["and", "or", "not"]);
const DEEPEST = 100;

class FormulaError extends Error {}

const printable = (sign) => sign === " " || !/[\p{C}\p{Z}]/u.test(sign);
const byCodePoint = (a, b) => {
  const [left, right] = [Array.from(a), Array.from(b)];
  for (let i = 0; i < Math.min(left.length, right.length); i++)
    if (left[i] !== right[i]) return left[i].codePointAt(0) - right[i].codePointAt(0);
  return left.length - right.length;
};

function quotedLikePython(text) { // repr(text)
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", [quote]: "\\" + quote };
  const hex = (sign) => {
    const code = sign.codePointAt(0);
    const [letter, width] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
    return "\\" + letter + code.toString(16).padStart(width, "0");
  };
  return quote + Array.from(text, (sign) => escaped[sign] || (printable(sign) ? sign : hex(sign))).join("") + quote;
}

function formulaError(signs, column, expected, got) {
  let shown = signs.join("");
  if (!signs.every(printable)) {
    const words = [];
    let word = "";
    for (const sign of [...signs, " "])
      if (!SPACES.has(sign)) word += sign;
      else if (word) { words.push(word); word = ""; }
    shown = words.join(" ");
  }
  return new FormulaError(`cannot read the formula ${quotedLikePython(shown)}: at column ${column} expected ${expected}, got ${got}`);
}

function neighborsEnd(signs, start) { // behind NEIGHBORS(name), which is one concept without quotes; 0 where there is none
  if (signs.slice(start, start + 10).join("") !== "NEIGHBORS(") return 0;
  let at = start + 10;
  while (at < signs.length && !SPACES.has(signs[at]) && !'()"\\'.includes(signs[at])) at++;
  const ends = at + 1 >= signs.length || SPACES.has(signs[at + 1]) || "()".includes(signs[at + 1]);
  return at > start + 10 && signs[at] === ")" && ends ? at + 1 : 0;
}

function tokensOf(signs) {
  const tokens = [];
  let at = 0;
  while (at < signs.length) {
    const start = at;
    const sign = signs[at++];
    if (SPACES.has(sign)) continue;
    if (sign === "(" || sign === ")") tokens.push({ kind: sign, text: sign, column: start + 1 });
    else if (sign === '"') {
      let name = "";
      while (at < signs.length && signs[at] !== '"') {
        if (signs[at] === "\\") at++;
        name += signs[at++] ?? "";
      }
      if (at >= signs.length) throw formulaError(signs, start + 1, 'a closing "', "the end");
      if (!name) throw formulaError(signs, start + 1, "a concept name", 'an empty name ""');
      at++;
      tokens.push({ kind: "name", text: name, column: start + 1 });
    } else if (neighborsEnd(signs, start)) {
      at = neighborsEnd(signs, start);
      tokens.push({ kind: "name", text: signs.slice(start, at).join(""), column: start + 1 });
    } else {
      while (at < signs.length && !SPACES.has(signs[at]) && !'()"'.includes(signs[at])) at++;
      const word = signs.slice(start, at).join("");
      const low = word.toLowerCase();
      tokens.push({ kind: RESERVED.has(low) ? low : "name", text: word, column: start + 1 });
    }
  }
  tokens.push({ kind: "end", text: "", column: signs.length + 1 });
  return tokens;
}

function parseFormula(text) { // a leaf is {name}, the rest is {op, parts}
  const signs = Array.from(text);
  const tokens = tokensOf(signs);
  let at = 0;
  const shown = (token) =>
    token.kind === "end" ? "the end"
      : RESERVED.has(token.kind) ? `${token.text} (a concept of this name is written "${token.text}")`
        : quotedLikePython(token.text);
  const chain = (word, next, depth) => {
    const parts = [next(depth)];
    while (tokens[at].kind === word) { at++; parts.push(next(depth)); }
    return parts.length === 1 ? parts[0] : { op: word, parts };
  };
  const either = (depth) => chain("or", (d) => chain("and", single, d), depth);
  const single = (depth) => {
    const token = tokens[at];
    if (depth > DEEPEST) throw formulaError(signs, token.column, `at most ${DEEPEST} levels of parentheses and NOT`, "more");
    if (token.kind === "name") { at++; return { name: token.text }; }
    if (token.kind === "not") { at++; return { op: "not", parts: [single(depth + 1)] }; }
    if (token.kind !== "(") throw formulaError(signs, token.column, 'a concept, NOT or "("', shown(token));
    at++;
    const inside = either(depth + 1);
    if (tokens[at].kind !== ")") throw formulaError(signs, tokens[at].column, 'AND, OR or ")"', shown(tokens[at]));
    at++;
    return inside;
  };
  const found = either(0);
  if (tokens[at].kind !== "end") {
    const hint = tokens[at].kind === "name" ? " (names with blanks are written in double quotes)" : "";
    throw formulaError(signs, tokens[at].column, "AND, OR or the end", shown(tokens[at]) + hint);
  }
  return found;
}

const BINDING = { or: 0, and: 1, not: 2 };
function formulaText(node, around = 0) { // with the fewest parentheses
  if (node.name !== undefined) {
    const signs = Array.from(node.name);
    const odd = signs.some((sign) => '()"\\'.includes(sign) || SPACES.has(sign) || !printable(sign));
    if (neighborsEnd(signs, 0) === signs.length ? signs.every(printable) : !odd && signs.length && !RESERVED.has(node.name.toLowerCase()))
      return node.name;
    return '"' + node.name.replaceAll("\\", "\\\\").replaceAll('"', '\\"') + '"';
  }
  const own = BINDING[node.op];
  const text = node.op === "not" ? "NOT " + formulaText(node.parts[0], 2)
    : node.parts.map((part) => formulaText(part, own)).join(` ${node.op.toUpperCase()} `);
  return own < around ? `(${text})` : text;
}

const leavesOf = (node) => (node.name !== undefined ? [node.name] : node.parts.flatMap(leavesOf));

function checkNames(node, known) { // known: a Map by name
  for (const name of leavesOf(node))
    if (!known.has(name))
      throw new FormulaError(`unknown concept ${quotedLikePython(name)} in formula ${formulaText(node)}${near(name, [...known.keys()].sort(byCodePoint)) || some([...known.keys()].sort(byCodePoint))}`);
}

function some(names) { // explain.neurons.formula._some
  const more = names.length > 5 ? ` and ${names.length - 5} more` : "";
  return names.length ? `; known: ${names.slice(0, 5).join(", ")}${more}` : "";
}

function near(name, known, count = 5) { // explain.errors.near
  const low = name.toLowerCase();
  const byLower = new Map(known.map((one) => [one.toLowerCase(), one]));
  const scored = [...byLower.keys()].map((one) => [similarity(one, low), one]).filter(([score]) => score >= 0.5);
  scored.sort((a, b) => b[0] - a[0] || byCodePoint(b[1], a[1]));
  const inside = known.filter((one) => one.toLowerCase().includes(low));
  const found = [...new Set([...scored.slice(0, count).map(([, one]) => byLower.get(one)), ...inside])].slice(0, count);
  return found.length ? `; near: ${found.join(", ")}` : "";
}

function similarity(first, second) { // the ratio of Python's difflib (Ratcliff & Obershelp 1988)
  const [a, b] = [Array.from(first), Array.from(second)];
  const places = new Map();
  b.forEach((sign, j) => places.set(sign, [...(places.get(sign) || []), j]));
  if (b.length >= 200) for (const [sign, at] of places) if (at.length > Math.floor(b.length / 100) + 1) places.delete(sign);
  const matched = (alo, ahi, blo, bhi) => {
    let [besti, bestj, size] = [alo, blo, 0];
    let before = new Map();
    for (let i = alo; i < ahi; i++) {
      const now = new Map();
      for (const j of places.get(a[i]) || []) {
        if (j < blo || j >= bhi) continue;
        const length = (before.get(j - 1) || 0) + 1;
        now.set(j, length);
        if (length > size) [besti, bestj, size] = [i - length + 1, j - length + 1, length];
      }
      before = now;
    }
    while (besti > alo && bestj > blo && a[besti - 1] === b[bestj - 1]) { besti--; bestj--; size++; }
    while (besti + size < ahi && bestj + size < bhi && a[besti + size] === b[bestj + size]) size++;
    if (!size) return 0;
    return size + matched(alo, besti, blo, bestj) + matched(besti + size, ahi, bestj + size, bhi);
  };
  const total = a.length + b.length;
  return total ? (2 * matched(0, a.length, 0, b.length)) / total : 1;
}
