// Asks the program to do something. Pages of other sites cannot send the header.
export async function post(path, body = {}) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { "X-Retain": "1", "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const text = await answer.text();
    return { ok: answer.ok, text: answer.ok ? JSON.parse(text).said : text };
  } catch {
    return { ok: false, text: "The program does not answer." };
  }
}
