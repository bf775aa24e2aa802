"""lorita's own messages in Spanish, those that the page shows most; all others stay in English.

``{name}`` stands for what differs. A message that is reworded is then no longer found here: a test
holds each of these against the source.
"""

from __future__ import annotations

MESSAGES = {
    # How the data was read
    "text from the column {name}": "texto de la columna {name}",
    "text from the template {name}": "texto de la plantilla {name}",
    "messages from {names}": "conversaciones de {names}",
    "prompt-completion from {names}": "preguntas y respuestas de {names}",
    "held out: {n} of {rows} rows, chosen at random (seed {seed})": "reservadas: {n} de {rows} "
    "filas, elegidas al azar (semilla {seed})",
    "fewer than ten rows, so none are held out": "hay menos de diez filas, así que no se reserva "
    "ninguna",
    "no rows are held out": "no se reserva ninguna fila",
    "no rows are held out: every row is a near duplicate of too many others": "no se reserva "
    "ninguna fila: todas se parecen demasiado a otras muchas",
    "chat template: the tokenizer's own": "plantilla de chat: la del propio tokenizador",
    "blank lines are skipped": "las líneas vacías se saltan",
    # Problems in rows
    "row {n}": "fila {n}",
    "{n} rows ({rows})": "{n} filas ({rows})",
    "row {n}: {what}": "fila {n}: {what}",
    "row {n}: {what} ({example})": "fila {n}: {what} ({example})",
    "{n} rows ({rows}): {what}": "{n} filas ({rows}): {what}",
    "{n} rows ({rows}): {what} ({example})": "{n} filas ({rows}): {what} ({example})",
    "{file}: {what}": "{file}: {what}",
    "all rows are identical": "todas las filas son idénticas",
    "the same as an earlier row": "igual que una fila anterior",
    "nearly the same as another row": "casi igual que otra fila",
    "row {n} like row {other}": "la fila {n} es como la {other}",
    "Keep one of them and train more epochs (--num-train-epochs).": "Deja una sola y entrena más "
    "épocas (--num-train-epochs).",
    "Remove the copies, unless these rows should count more.": "Quita las copias, salvo que estas "
    "filas deban contar más.",
    "Check them: near copies count more and add little.": "Revísalas: las filas casi iguales "
    "cuentan más y aportan poco.",
    "different answers to the same prompt ({count})": "respuestas distintas "
    "a la misma pregunta ({count})",
    "Keep the right answer, or make the prompts differ.": "Deja la respuesta correcta, o haz que "
    "las preguntas sean distintas.",
    "ends with a question that has no answer": "termina con una pregunta sin respuesta",
    "Add the answer, or remove the last question: it is not trained on.": "Añade la respuesta o "
    "quita la última pregunta: no se entrena con ella.",
    "consecutive turns of the same role": "dos turnos seguidos del mismo papel",
    "Join these turns, or add the missing one.": "Une esos turnos o añade el que falta.",
    "invisible or control characters": "caracteres invisibles o de control",
    "Remove them: they cost tokens, and the model will write them too.": "Quítalos: gastan "
    "tokens, y el modelo también los escribirá.",
    "text decoded with the wrong encoding": "texto leído con una codificación equivocada",
    "Save the file as UTF-8 again, or repair the text: ftfy.fix_text(text).": "Guarda otra vez el "
    "archivo como UTF-8, o repara el texto: ftfy.fix_text(texto).",
    "leftover HTML": "restos de HTML",
    "Remove the markup (html.unescape turns &amp; into &) unless the model should learn it.": (
        "Quita las marcas (html.unescape convierte &amp; en &), salvo que deba aprenderlas."
    ),
    "possible secrets": "posibles contraseñas o claves",
    "Replace them: a model can repeat its training data to anyone.": "Sustitúyelas: un modelo "
    "puede repetirle a cualquiera sus datos de entrenamiento.",
    "very long repetitions": "repeticiones muy largas",
    "Shorten them: the model would learn to repeat itself.": "Acórtalas: el modelo aprendería a "
    "repetirse.",
    "in a different language from most rows": "en un idioma distinto del de la mayoría",
    "Fine if intended; otherwise the model may answer in the wrong language.": "Está bien si es a "
    "propósito; si no, el modelo puede responder en otro idioma.",
    "longer than max_length ({n} tokens)": "más largas que max_length ({n} tokens)",
    "They are cut: raise --max-length, or --overflow split for long texts.": "Se cortan: aumenta "
    "--max-length, o usa --overflow split para textos largos.",
    "Remove or fix these rows.": "Quita o corrige estas filas.",
    "held-out rows that duplicate training rows": "filas reservadas que repiten filas de "
    "entrenamiento",
    # Files that cannot be read
    "{file}: the file is empty": "{file}: el archivo está vacío",
    "{file}: the file contains no text": "{file}: el archivo no contiene texto",
    "{file}: file not found": "{file}: no se encuentra el archivo",
    "{file}: not UTF-8 ({where}); save it as UTF-8": "{file}: no es UTF-8 ({where}); guárdalo como "
    "UTF-8 (en Excel: Guardar como, «CSV UTF-8»)",
    "this is {what}": "es {what}",
    "a Word document; save it as plain text (.txt)": "un documento de Word; guárdalo como texto "
    "sin formato (.txt)",
    "a text document; save it as plain text (.txt)": "un documento de texto; guárdalo como texto "
    "sin formato (.txt)",
    "a PDF; extract its text first": "un PDF; extrae antes su texto",
    "{file}: line {n}: not valid JSON: {reason}": "{file}: línea {n}: JSON no válido ({reason})",
    "{file}: which column holds the text? The columns are {names}": "{file}: ¿qué columna tiene el "
    "texto? Las columnas son {names}",
    "Name it with --text-field NAME or --text-template {example}.": "Indícala con --text-field "
    "NOMBRE o --text-template {example}; en esta página, en «Más ajustes», con una línea como "
    "text_field: NOMBRE.",
    "If one is a question and another its answer: {flags}.": "Si una es la pregunta y otra la "
    "respuesta: {flags}.",
    # Before and during the training
    "few steps ({n}): the adapter will hardly change. For more steps, lower {one} or raise {two}": (
        "pocos pasos ({n}): el adaptador apenas cambiará. Para dar más, baja {one} o sube {two}"
    ),
    "{n} rows are seen {times} times: with so few rows, more than about {most} epochs make the "
    "model memorise them. Lower {option}, or use --load-best-model-at-end": (
        "las {n} filas se ven {times} veces: con tan pocas, más de unas {most} épocas hacen que el "
        "modelo las memorice. Baja {option}, o usa --load-best-model-at-end"
    ),
    "step {n}: the loss jumped to {now} from about {before}. If it stays high, lower {one} or add "
    "{two}": (
        "paso {n}: la pérdida ha saltado a {now} desde unos {before}. Si sigue alta, baja {one} o "
        "añade {two}"
    ),
    "step {n}: the held-out loss is rising (best {best} at step {where}, now {now}) while the "
    "training loss is falling ({then} then, {training} now): the model is memorising its training "
    "rows. {do}": (
        "paso {n}: la pérdida en filas reservadas sube (la mejor, {best} en el paso {where}; ahora "
        "{now}) mientras la de entrenamiento baja ({then} entonces, {training} ahora): el modelo "
        "está memorizando sus filas. Entrena menos (--num-train-epochs, --learning-rate), añade "
        "filas o guarda el mejor punto: --load-best-model-at-end --early-stopping-patience 2"
    ),
    "{n} epochs of {rows} rows per step, {optimizer}: chosen for {all} rows": (
        "{n} épocas con {rows} filas por paso, {optimizer}: elegido para {all} filas"
    ),
    "1 epoch of {rows} rows per step, {optimizer}: chosen for {all} rows": (
        "1 época con {rows} filas por paso, {optimizer}: elegido para {all} filas"
    ),
    "Number format: {format}, because this processor has no instructions for bfloat16 products "
    "({measured})": (
        "Formato de los números: {format}, porque este procesador no tiene instrucciones para "
        "productos bfloat16 ({measured})"
    ),
}
