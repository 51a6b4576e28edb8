// Errors, and the sentences that the page shows for them.

/** An error whose message can be shown as it is. */
export class PageError extends Error {
  /** @param {{needsKey?: boolean, status?: number}} details `status` of the server's response */
  constructor(message, { needsKey = false, status = 0 } = {}) {
    super(message);
    this.needsKey = needsKey;
    this.status = status;
  }

  /** Whether the same request can succeed later. */
  get temporary() {
    return this.unreachable || this.status === 429 || this.status >= 500;
  }
}

/** The error of a connection that could not be made, or that broke off. */
export function unreachable() {
  const error = new PageError(
    "The server cannot be reached, or it closed the connection. Check that it is running.",
  );
  error.unreachable = true;
  return error;
}

/** The error of a response that is no success. */
export async function fromResponse(response, hadKey) {
  const { status } = response;
  if (status === 401) {
    const message = hadKey ? "The server does not know this key." : "This server asks for a key.";
    return new PageError(message, { needsKey: true, status });
  }
  const message = await messageOf(response);
  if (status === 429) {
    const seconds = Number(response.headers.get("Retry-After"));
    const when = seconds > 0 ? `Try again in ${seconds} seconds.` : "Try again soon.";
    return new PageError(`The server has no room now. ${when}`, { status });
  }
  return new PageError(message || `The server answered with status ${status}.`, { status });
}

/** The sentence for anything that was thrown. */
export function sentence(error) {
  if (error instanceof PageError) return error.message;
  return `The page failed: ${error.message}`;
}

async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return "";
  }
}
