// What went wrong, in words for people.

/** An error whose message can be shown as it is. */
export class Told extends Error {
  constructor(message, { needsKey = false } = {}) {
    super(message);
    this.needsKey = needsKey;
  }
}

/** The words for an answer that is no success. */
export async function fromResponse(response, hadKey) {
  const said = await message(response);
  if (response.status === 401) {
    return new Told(
      hadKey ? "The server does not know this key." : "This server asks for a key.",
      { needsKey: true },
    );
  }
  if (response.status === 429) {
    const seconds = Number(response.headers.get("Retry-After"));
    const when = seconds > 0 ? ` Try again in ${seconds} seconds.` : " Try again soon.";
    return new Told(`The server has no room now.${when}`);
  }
  return new Told(said || `The server answered with status ${response.status}.`);
}

/** The words for anything that was thrown. */
export function inWords(error) {
  if (error instanceof Told) return error.message;
  // Browsers tell a lost connection only as a TypeError of fetch.
  if (error instanceof TypeError && /fetch|network|load failed/i.test(error.message)) {
    return "The server cannot be reached, or it ended the connection. Is it running?";
  }
  return `Something went wrong in this page: ${error.message}`;
}

async function message(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return "";
  }
}
