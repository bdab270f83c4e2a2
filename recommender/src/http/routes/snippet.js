// <script src=".../v1/snippet.js" data-key="pk_..."></script>
((w, script) => {
  const { key } = script.dataset, mine = {}
  const keep = (name, value) => {
    try {
      if (value) w.sessionStorage[name] = value
      return w.sessionStorage[name]
    } catch (e) {
      return (mine[name] = value || mine[name])
    }
  }
  const random = () => w.crypto.getRandomValues(new Uint32Array(4)).join("-")
  const session = () => keep("rec-id") || keep("rec-id", random())
  const led = () => JSON.parse(keep("rec-led") || "{}")
  const ask = async (path, query, body, again) => {
    const url = new URL(path, script.src)
    if (key) url.searchParams.set("key", key)
    for (const name in query) if (query[name]) url.searchParams.set(name, query[name])
    const answer = await w.fetch(url.href, body && {
      method: "POST",
      keepalive: true,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body)
    })
    if (answer.status > 499 && again) return ask(path, query, body)
    if (!answer.ok) throw Error(path + ": " + answer.status)
    return answer.json()
  }
  const near = what => (id, limit) => ask(`products/${encodeURIComponent(id)}/${what}`, { limit })
  w.recommender = {
    similar: near("similar"),
    boughtTogether: near("bought-together"),
    trending: limit => ask("trending", { limit }),
    send: (event_type, product_id, more) =>
      ask("events", {}, {
        event_id: random(), session_id: session(), recommendation_id: led()[product_id],
        event_type, product_id, ...more
      }, 1),
    recommend: async asked => {
      const answer = await ask("recommendations", {}, { session_id: session(), ...asked })
      const shown = {}
      for (const item of answer.items) shown[item.product_id] = answer.recommendation_id
      const all = { ...led(), ...shown }
      keep("rec-led", JSON.stringify(Object.keys(all).length > 200 ? shown : all))
      return answer
    }
  }
})(window, document.currentScript)
