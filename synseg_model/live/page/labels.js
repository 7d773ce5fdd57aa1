// The list of labels: one entry per label, kept while the label stays, so that focus and sliders stay as well.

const SEND_EVERY = 80; // ms, while a slider moves
const HANDS_OFF = 1000; // ms after a move, in which the server's thresholds do not move the slider

export class LabelList {
  constructor(list, template, send) {
    this.list = list;
    this.template = template;
    this.send = send;
    this.entries = new Map();
  }

  // Show the labels of a state of the session.
  update(labels) {
    const gone = new Set(this.entries.keys());
    labels.forEach((label, index) => {
      gone.delete(label.label);
      let entry = this.entries.get(label.label);
      if (!entry) {
        entry = new Entry(this.template, label.label, this.send);
        this.entries.set(label.label, entry);
      }
      entry.update(label);
      if (this.list.children[index] !== entry.item) {
        this.list.insertBefore(entry.item, this.list.children[index] ?? null);
      }
    });
    for (const name of gone) {
      this.entries.get(name).item.remove();
      this.entries.delete(name);
    }
  }

  // Show what was found in a frame: score, presence and share by label. Returns the names of the labels with a mask.
  show(found) {
    const present = [];
    for (const [name, entry] of this.entries) {
      if (entry.show(found[name])) present.push(name);
    }
    return present;
  }
}

class Entry {
  constructor(template, name, send) {
    this.item = template.content.firstElementChild.cloneNode(true);
    const find = (selector) => this.item.querySelector(selector);
    this.shown = find(".shown");
    this.swatch = find(".swatch");
    this.score = find(".score");
    this.slider = find("input[type=range]");
    this.value = find(".value");
    this.moved = -Infinity;
    find(".text").textContent = name; // never as HTML: labels are any text
    this.shown.setAttribute("aria-label", `show ${name}`);
    this.slider.setAttribute("aria-label", `threshold of ${name}`);
    this.shown.addEventListener("change", () => send({ do: "show", label: name, on: this.shown.checked }));
    this.slider.addEventListener("input", () => {
      this.moved = performance.now();
      this.value.value = Number(this.slider.value).toFixed(2);
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        send({ do: "threshold", label: name, threshold: Number(this.slider.value) });
      }, SEND_EVERY);
    });
  }

  update(label) {
    this.item.style.setProperty("--color", label.color); // through the object model, which the page's policy allows
    this.swatch.style.background = label.color;
    this.shown.checked = label.shown;
    this.slider.disabled = !label.own;
    this.slider.title = label.own ? "" : "other clients want this label: ask for it to set its threshold";
    if (performance.now() - this.moved > HANDS_OFF) {
      this.slider.value = label.threshold;
      this.value.value = label.threshold.toFixed(2);
    }
  }

  show(found) {
    const [score, presence, share] = found ?? [0, 0, 0];
    const present = share > 0;
    this.slider.style.setProperty("--presence", `${(100 * presence).toFixed(1)}%`);
    this.score.value = present ? `score ${score.toFixed(2)} · ${percent(share)}` : "not found";
    this.item.classList.toggle("present", present);
    return present;
  }
}

function percent(share) {
  return share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`;
}
