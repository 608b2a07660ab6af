// Asks the program to do something. Pages of other sites cannot send the headers; the token came
// behind the # of the address that the command printed, and stays with this tab.
const KEY = "retain-token";
if (location.hash.length > 1) {
  sessionStorage.setItem(KEY, location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}

export async function post(path, body = {}) {
  const headers = { "X-Retain": "1", "X-Retain-Token": sessionStorage.getItem(KEY) ?? "", "Content-Type": "application/json" };
  try {
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    const text = await answer.text();
    return { ok: answer.ok, text: answer.ok ? JSON.parse(text).said : text };
  } catch {
    return { ok: false, text: "The program does not answer." };
  }
}
