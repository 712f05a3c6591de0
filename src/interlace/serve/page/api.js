// The server, as the page sees it: its models, and the stream of a completion.

// What went wrong, in plain words, and what helps.
export class Trouble extends Error {
  constructor(what, remedy = "", status = 0) {
    super(what);
    this.remedy = remedy;
    this.status = status;
  }
}

const REMEDIES = {
  400: "Change what it names, and try again.",
  401: "Enter the key that the server was started with.",
  403: "Enter the key that the server was started with.",
  404: "Reload the page: the server may serve other models now.",
  408: "The server gave up waiting. Ask for fewer tokens, or try again.",
  413: "Shorten the prompt.",
  422: "Change what it names, and try again.",
  429: "The server has enough to do. Wait a moment, then try again.",
  500: "The others go on. Try again; if it comes back, the server's log says more.",
  504: "Ask for fewer tokens, or try again when less is going on.",
  503: "The server is starting or stopping. Wait a moment, then try again.",
};

let secret = sessionStorage.getItem("interlace.key") ?? "";

export const hasKey = () => Boolean(secret);

export function useKey(key) {
  secret = key;
  sessionStorage.setItem("interlace.key", key);
}

const sentence = text => (/[.!?]$/.test(text) ? text : text + ".").replace(/^./, first => first.toUpperCase());

function trouble(error, status) {
  const said = typeof error === "string" ? error : error?.message;
  const usual = REMEDIES[status] ?? "Try again.";
  if (typeof said !== "string" || !said) return new Trouble(`The server answered with ${status}.`, usual, status);
  const [, what, remedy = ""] = /^(.*?)(?:; (?!got )((?:(?!; (?!got )).)*))?$/s.exec(said); // the cause; and the remedy, last
  return new Trouble(sentence(what), remedy ? sentence(remedy) : usual, status);
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(secret && { Authorization: `Bearer ${secret}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer.", "See whether it still runs; if not, start it again (interlace serve), then try again.");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw trouble(body.error ?? body.detail, answer.status);
}

export async function models() {
  return (await (await ask("v1/models")).json()).data;
}

// The data of server-sent events, from their bytes. Lines end in \n, \r\n or \r; an event ends at an empty line.
export async function* events(bytes) {
  let rest = "", data = [];
  const decoder = new TextDecoder();
  for await (const piece of bytes) {
    rest += decoder.decode(piece, { stream: true });
    const lines = rest.replace(/\r\n|\r(?!$)/g, "\n").split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(5).replace(/^ /, ""));
      }
    }
  }
}

const broken = () => new Trouble("The answer broke off before its end.", "What has come is kept. Try again for the rest.");

async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(error => {
        throw error.name === "AbortError" ? error : broken(); // the connection is gone
      });
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// {text, unit, usage} of every chunk of a completion (or of a chat, if the body has messages).
export async function* complete(body, signal) {
  const answer = await ask(body.messages ? "v1/chat/completions" : "v1/completions", {
    method: "POST",
    signal,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, drafts: true, stream_options: { include_usage: true } }),
  });
  for await (const data of events(chunks(answer.body))) {
    if (data === "[DONE]") return;
    let found;
    try {
      found = JSON.parse(data);
    } catch {
      throw new Trouble("The server sent something that is no answer.", "Try again; if it comes back, reload the page.");
    }
    if (found.error) throw trouble(found.error, found.error.type === "timeout_error" ? 504 : 500);
    const choice = found.choices?.[0];
    yield {
      text: choice?.text ?? choice?.delta?.content ?? "",
      unit: choice?.unit ?? null,
      usage: found.usage ?? null,
    };
  }
  throw broken();
}
