// The console's only script. Every page can be read without it.

// bw-live counts incidents that arrive after the page was made and pass its
// filter. Nothing on the page moves: the reader asks for the new rows.
class Live extends HTMLElement {
  connectedCallback() {
    const query = new URLSearchParams(this.dataset.query);
    query.set("after", this.dataset.after);
    this.fresh = 0;
    this.title = document.title;
    this.say("Live: new incidents are counted here.");
    this.stream = new EventSource("/api/v1/incidents/stream?" + query);
    this.stream.addEventListener("incident", (e) => this.arrived(JSON.parse(e.data)));
    this.stream.addEventListener("error", () => this.say(this.words() + " Connection lost; trying again."));
    this.stream.addEventListener("open", () => this.say(this.words() || "Live: new incidents are counted here."));
  }

  disconnectedCallback() {
    this.stream.close();
  }

  words() {
    return this.fresh === 0 ? "" : `${this.fresh} new incident${this.fresh === 1 ? "" : "s"}.`;
  }

  arrived(incident) {
    this.fresh++;
    document.title = `(${this.fresh}) ${this.title}`;
    const show = document.createElement("a");
    show.href = location.pathname + location.search;
    show.className = "button";
    show.textContent = this.words().replace(".", "") + ": show";
    const newest = document.createElement("a");
    newest.href = `/incidents/${incident.id}`;
    newest.textContent = incident.sentence.replaceAll("`", "");
    this.replaceChildren(show, " Newest: ", newest);
    this.classList.add("fresh");
  }

  say(text) {
    if (this.fresh > 0) return;
    const span = document.createElement("span");
    span.className = "dim";
    span.textContent = text;
    this.replaceChildren(span);
  }
}
customElements.define("bw-live", Live);

// "/" goes to the search, as in many tools.
document.addEventListener("keydown", (e) => {
  const typing = e.target.closest("input, textarea, select");
  const search = document.getElementById("search");
  if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && search) {
    e.preventDefault();
    search.focus();
  }
});

// Digests and ids can be copied.
for (const code of document.querySelectorAll("code.copy")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy " + code.textContent);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  });
  code.after(" ", button);
}

// The theme changes when it is chosen; the button is for those without script.
const theme = document.getElementById("theme");
theme?.addEventListener("change", () => theme.form.submit());
document.querySelector(".theme button")?.remove();

// A policy file is read into the editor, where it is seen before it is stored.
const upload = document.getElementById("upload");
upload?.addEventListener("change", async () => {
  document.getElementById("source").value = await upload.files[0].text();
});

// A problem's line is selected in the editor.
for (const link of document.querySelectorAll("a[data-line]")) {
  link.addEventListener("click", (e) => {
    e.preventDefault();
    const source = document.getElementById("source");
    const lines = source.value.split("\n");
    const line = Number(link.dataset.line) - 1;
    const start = lines.slice(0, line).join("\n").length + (line > 0 ? 1 : 0);
    source.focus();
    source.setSelectionRange(start, start + (lines[line] ?? "").length);
  });
}
