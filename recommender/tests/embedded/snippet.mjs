// Runs the snippet as a page would: a fake window whose fetch notes what is asked and then asks it.
// Arguments: the snippet's address, the publishable key. Prints what it saw as JSON.
const [address, key] = process.argv.slice(2);
const source = await (await fetch(address)).text();
const asked = [];
let failures = 1;
const stored = {};
const window = {
  sessionStorage: stored,
  crypto: globalThis.crypto,
  fetch: async (url, options = {}) => {
    asked.push({ method: options.method || "GET", url: url.replace(new URL(address).origin, ""), body: options.body && JSON.parse(options.body) });
    // The first event meets a server that is away for a moment.
    if (options.method && url.includes("/events") && failures-- > 0) return { ok: false, status: 503 };
    return fetch(url, options);
  },
};
const page = (storage) => {
  const w = storage ? window : { ...window, get sessionStorage() { throw new Error("blocked"); } };
  if (!storage) Object.defineProperty(w, "sessionStorage", { get() { throw new Error("blocked"); } });
  const document = { currentScript: { src: address, dataset: { key } } };
  new Function("window", "document", source)(w, document);
  return w.recommender;
};
const shop = page(true);
const answer = await shop.recommend({ recent: ["cup"], placement: "product", limit: 3 });
const shown = answer.items[0].product_id;
await shop.send("click", shown, { properties: { from: "test" } });
await page(true).send("view", shown);
const similar = await shop.similar("a/b c", 2).catch((error) => error.message);
const trending = await shop.trending(2);
// A browser that keeps nothing: the id lasts for the page.
const closed = page(false);
await closed.send("view", "cup");
await closed.send("cart", "cup");
console.log(JSON.stringify({ asked, stored, answer, similar, trending: trending.items.length }));
