// Values from callbacks, as an asynchronous iterator.

/** Values are read in the order in which they were pushed. */
export class Channel {
  constructor() {
    this.values = [];
    this.closed = false;
    this.error = null;
    this.wake = () => {};
  }

  push(value) {
    this.values.push(value);
    this.wake();
  }

  /** Close when `work` is over; its error is thrown to the reader. */
  closeWith(work) {
    const close = (error) => {
      [this.closed, this.error] = [true, error];
      this.wake();
    };
    work.then(
      () => close(null),
      (error) => close(error),
    );
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.values.length) yield this.values.shift();
      if (this.closed) break;
      await new Promise((resolve) => (this.wake = resolve));
    }
    if (this.error) throw this.error;
  }
}
