// Replaces the JSON of some fields by a text that holds it. The rest of the record is passed on as it is
// written, because JavaScript would round its large integers.
function jsonAsText(message, metadata) {
  const fields = ${fields};
  const data = message.data;
  let out = "", copied = 0, depth = 0, key = null, start = -1, name = null;

  // cut ends the value of a field at the top, and writes it anew where it is one of ours.
  function cut(end) {
    if (key !== null && fields.includes(key)) {
      const value = data.slice(start, end).trim();
      if (value !== "null") {
        out += data.slice(copied, start) + JSON.stringify(value);
        copied = end;
      }
    }
    key = null;
    name = null;
  }

  for (let i = 0; i < data.length; i++) {
    const c = data[i];
    if (c === '"') {
      const from = i;
      for (i++; i < data.length && data[i] !== '"'; i++) {
        if (data[i] === "\\") i++;
      }
      if (depth === 1 && key === null) name = data.slice(from, i + 1);
    } else if (c === ":" && depth === 1 && key === null && name !== null) {
      key = JSON.parse(name);
      start = i + 1;
    } else if (c === "," && depth === 1) {
      cut(i);
    } else if (c === "{" || c === "[") {
      depth++;
    } else if (c === "}" || c === "]") {
      if (depth === 1) cut(i);
      depth--;
    }
  }
  message.data = out + data.slice(copied);
  return message;
}
